"""Waits: what each instruction must wait for, in straight lines and in loops."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from emuron.isa.affine import Affine, LoopIndex
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import AccessPattern
from emuron.sim.dependencies import Node, Repeated, schedule
from emuron.sim.sites import Sites
from emuron.sim.tracking_kernel import WAIT
from tests.sim.nests import Renderer, bodies
from tests.sim.programs import ProgramWriter

Waits = list[tuple[str, str, list[tuple[str, int]]]]


def waits_of(program: Program, *, numba: bool = False) -> Waits:
    """Return (queue, instruction, waits) of each instruction executed, loops written out."""
    sites = Sites(program)
    return [
        (
            sites.queue_names[sites.queue[site]],
            sites.label(site),
            [(sites.queue_names[queue], position) for queue, position in waits],
        )
        for site, waits in _executed(schedule(sites, numba=numba), ())
    ]


def _executed(nodes: list[Node], counters: tuple[int, ...]) -> Any:
    for node in nodes:
        if isinstance(node, Repeated):
            for i in range(node.trip):
                yield from _executed(node.body, (*counters, i))
            continue
        found = [tuple(node.waits[i : i + WAIT]) for i in range(0, len(node.waits), WAIT)]
        slopes = node.slopes or [(0,) * len(counters)] * len(found)
        waits = [
            (int(queue), int(base) + sum(s * c for s, c in zip(levels, counters, strict=True)))
            for (queue, base), levels in zip(found, slopes, strict=True)
        ]
        ends = [0, *node.ends]
        for i, site in enumerate(range(node.run.first, node.run.last)):
            yield site, waits[int(ends[i]) : int(ends[i + 1])]


def length(nodes: list[Node]) -> int:
    """Return the number of instructions in scheduled nodes, loops counted once."""
    return sum(
        length(node.body) if isinstance(node, Repeated) else node.run.last - node.run.first
        for node in nodes
    )


def test_a_read_waits_for_the_write_of_its_bytes() -> None:
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 64), writer.sbuf("y", 64)
    writer.load(x, writer.hbm("h", (128, 64), "input"))
    writer.copy(y, x)
    assert waits_of(writer.program()) == [
        ("dma-loads0", "dma_copy", []),
        ("vector", "tensor_copy", [("dma-loads0", 0)]),
    ]


def test_a_write_waits_for_the_reads_of_its_bytes() -> None:
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 64), writer.sbuf("y", 64)
    source = writer.hbm("h", (128, 64), "input")
    writer.copy(y, x)
    writer.load(x, source)
    assert waits_of(writer.program())[1][2] == [("vector", 0)]


def test_other_bytes_of_the_tensor_are_not_waited_for() -> None:
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 128), writer.sbuf("y", 64)
    halves = [AccessPattern(x, (128, 64), (128, 1), offset) for offset in (0, 64)]
    source = AccessPattern(writer.hbm("h", (128, 64), "input"))
    writer.transfer(halves[0], source)
    writer.issue(None, "tensor_copy", AccessPattern(y), halves[1])
    writer.issue(None, "tensor_copy", AccessPattern(y), halves[0])
    assert [waits for *_, waits in waits_of(writer.program())] == [[], [], [("dma-loads0", 0)]]


def test_tiles_of_an_hbm_matrix_do_not_wait_for_their_neighbours() -> None:
    writer = ProgramWriter()
    tiles = [writer.sbuf(f"t{i}", 64) for i in range(2)]
    matrix = writer.hbm("h", (128, 128))
    for i, tile in enumerate(tiles):
        writer.store(matrix, tile, offset=64 * i)
    writer.load(tiles[0], matrix, offset=64)
    assert [waits for *_, waits in waits_of(writer.program())][:2] == [[], []]
    assert waits_of(writer.program())[2][2] == [("dma-stores0", 0), ("dma-stores1", 0)]


def test_an_engine_waits_for_its_own_result_but_not_for_its_own_reads() -> None:
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 64), writer.sbuf("y", 64)
    writer.copy(y, x)
    writer.copy(x, y)
    writer.copy(x, x)
    assert [waits for *_, waits in waits_of(writer.program())] == [
        [],
        [("vector", 0)],
        [("vector", 1)],
    ]


def test_matmuls_accumulate_without_waiting_for_each_other() -> None:
    writer = ProgramWriter()
    a, b, psum = writer.sbuf("a", 128), writer.sbuf("b", 512), writer.psum("p", 512)
    for _ in range(3):
        writer.matmul(psum, a, b)
    assert all(not waits for *_, waits in waits_of(writer.program()))


def test_a_wait_that_an_earlier_one_of_the_queue_implies_is_left_out() -> None:
    writer = ProgramWriter()
    x, y, z = (writer.sbuf(name, 64) for name in "xyz")
    writer.load(x, writer.hbm("h", (128, 64), "input"))
    writer.copy(y, x)
    writer.copy(z, x)
    assert waits_of(writer.program())[2][2] == []


def test_a_write_waits_for_the_accesses_of_rivals() -> None:
    writer = ProgramWriter()
    old, new, other = (writer.sbuf(name, 64) for name in ("old", "new", "other"))
    old.address = new.address = (0, 0)
    old.rivals, new.rivals = (new,), (old,)
    writer.copy(other, old)
    writer.load(new, writer.hbm("h", (128, 64), "input"))
    assert waits_of(writer.program())[1][2] == [("vector", 0)]


def test_tensors_on_the_same_bytes_by_address_wait_for_each_other() -> None:
    writer = ProgramWriter()
    a, b, other = (writer.sbuf(name, 64) for name in ("a", "b", "other"))
    for tensor, byte in ((a, 0), (b, 64)):
        tensor.address, tensor.aliases = (0, byte), True
    writer.load(a, writer.hbm("h", (128, 64), "input"))
    writer.copy(other, b)
    assert waits_of(writer.program())[1][2] == [("dma-loads0", 0)]


def test_a_double_buffered_loop_stays_a_loop() -> None:
    writer = ProgramWriter()
    slots, result = [writer.sbuf(f"s{i}", 64) for i in range(2)], writer.sbuf("r", 64)
    source = writer.hbm("h", (128, 64 * 200), "input")
    index = LoopIndex("i", 100)
    body = Block()
    writer.body.append(Loop(index, [body]))
    for i, slot in enumerate(slots):
        writer.load(slot, source, Affine.of(index) * 128 + 64 * i, block=body)
        writer.copy(result, slot, block=body)
    nodes = schedule(Sites(writer.program()))
    assert isinstance(nodes[-1], Repeated)
    assert length(nodes) <= 16


@settings(max_examples=60, deadline=None)
@given(bodies(0, 3))
def test_waits_of_loops_equal_those_of_the_loops_written_out(body: tuple[Any, ...]) -> None:
    looped = Renderer(unroll=False).program(body)
    unrolled = Renderer(unroll=True).program(body)
    if len(unrolled) <= 1500:
        assert waits_of(looped) == waits_of(unrolled)


@pytest.mark.fast
@settings(max_examples=30, deadline=None)
@given(bodies(0, 2))
def test_compiled_and_plain_tracking_agree(body: tuple[Any, ...]) -> None:
    pytest.importorskip("numba")
    program = Renderer(unroll=False).program(body)
    if len(program) <= 1500:
        assert waits_of(program, numba=True) == waits_of(program)


def test_tracking_grows_its_room_for_readers_and_waits() -> None:
    writer = ProgramWriter()
    shared, out = writer.sbuf("shared", 64), [writer.sbuf(f"o{i}", 64) for i in range(3000)]
    for tensor in out:
        writer.copy(tensor, shared)
        writer.activation_of(tensor, tensor, "exp")
    found = waits_of(writer.program())
    assert [waits for *_, waits in found[::2]] == [[]] * 3000
    assert [waits for *_, waits in found[1::2]] == [[("vector", i)] for i in range(3000)]
