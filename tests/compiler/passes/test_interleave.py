"""Reordering a program: what touches the same bytes keeps its order, and engines wait less."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.ops import Autocast
from emuron.compiler.passes.hazards import Box, hazards
from emuron.compiler.passes.interleave import interleave
from emuron.compiler.passes.lower import lower
from emuron.compiler.pipeline import optimize
from emuron.hardware.catalog import instance
from emuron.isa.program import Block, Program
from emuron.isa.tensor import MemoryRegion
from emuron.nki import isa
from emuron.nki.recorder import Recorder
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32
from emuron.sim.memory import place
from emuron.sim.timing import TimingSimulator

CORE = instance("inf2.xlarge").chip.core


def words(program: Program, block: Block) -> list[str]:
    """Return each instruction with its operands as text."""
    return [
        f"{program.forms[form].mnemonic} {program.view(block, row)!r}"
        for row, form in enumerate(block.form)
    ]


@pytest.fixture
def written(bert: Callable[..., HFModel]) -> Program:
    model = bert(num_hidden_layers=2, max_position_embeddings=128)
    graph = optimize(model.encoder_graph(2, 128))
    return lower(graph, CORE, Autocast("matmult"), 40000).program


def two_chains() -> Program:
    """Return two sums on the Vector engine, each followed by its exponential, then its double."""
    recorder = Recorder(CORE, "two")
    with recorder.active():
        tiles = [
            [NkiTensor(recorder.tensor((128, 512), float32, MemoryRegion.sbuf)) for _ in range(3)]
            for _ in range(2)
        ]
        for first, _, _ in tiles:
            isa.memset(first, 1.0, engine="vector")
        for first, second, third in tiles:
            isa.activation(second, "exp", first)
            isa.tensor_tensor(third, second, second, "add", engine="vector")
    return recorder.program.freeze()


def test_boxes_meet_where_they_share_partitions_and_bytes() -> None:
    box = Box(0, 64, 100, 200)
    assert box.meets(Box(63, 64, 199, 300))
    assert not box.meets(Box(64, 128, 100, 200))
    assert not box.meets(Box(0, 64, 200, 300))
    assert box.covers(Box(1, 2, 150, 160))
    assert not box.covers(Box(0, 65, 150, 160))


def test_each_step_of_a_chain_waits_for_the_one_before() -> None:
    program = two_chains()
    (block,) = (block for block, _ in program.leaves())
    # memset 0, memset 1, exp 2, add 3, exp 4, add 5
    assert hazards(program, block) == [set(), set(), {0}, {2}, {1}, {4}]


def test_a_sum_over_several_instructions_is_not_broken_by_another_one() -> None:
    """Both work on the Scalar engine's accumulator, which no operand shows."""
    recorder = Recorder(CORE, "sums")
    with recorder.active():
        x, total = (
            NkiTensor(recorder.tensor((128, n), float32, MemoryRegion.sbuf)) for n in (64, 1)
        )
        isa.memset(x, 1.0)
        for command in ("reset_reduce", "reset_reduce", "reduce"):
            made = NkiTensor(recorder.tensor((128, 64), float32, MemoryRegion.sbuf))
            isa.activation(made, "exp", x, reduce_op="add", reduce_cmd=command, bias=0.0, scale=1.0)
        isa.tensor_copy(total, x[:, :1])
    program = recorder.program.freeze()
    (block,) = (block for block, _ in program.leaves())
    assert hazards(program, block)[1:4] == [{0}, {0, 1}, {0, 2}]


def test_what_is_read_backwards_is_written_before() -> None:
    recorder = Recorder(CORE, "backwards")
    with recorder.active():
        rows = NkiTensor(recorder.tensor((4, 8), float32, MemoryRegion.private_hbm))
        tile = NkiTensor(recorder.tensor((4, 8), float32, MemoryRegion.sbuf))
        isa.memset(tile, 1.0)
        isa.dma_copy(rows, tile)
        last = NkiTensor(rows.tensor, (4, 8), (-8, -1), 31, float32)
        isa.dma_copy(tile, last)
    program = recorder.program.freeze()
    (block,) = (block for block, _ in program.leaves())
    assert 1 in hazards(program, block)[2]


def test_every_instruction_stays_behind_those_it_must_wait_for(written: Program) -> None:
    made = interleave(written)
    for (before, _), (after, _) in zip(written.leaves(), made.leaves(), strict=True):
        assert sorted(words(written, before)) == sorted(words(made, after))
        place_of: dict[str, list[int]] = {}
        for row, text in enumerate(words(made, after)):
            place_of.setdefault(text, []).append(row)
        old = words(written, before)
        # Equal instructions keep their order among themselves, so that the n-th stays the n-th.
        seen: dict[str, int] = {}
        new = []
        for text in old:
            new.append(place_of[text][seen.setdefault(text, 0)])
            seen[text] += 1
        for row, needed in enumerate(hazards(written, before)):
            assert all(new[earlier] < new[row] for earlier in needed)


def test_engines_wait_less(written: Program, bert: Callable[..., HFModel]) -> None:
    def total_ps(program: Program) -> int:
        place(program)
        return TimingSimulator(CORE).run(program, collect=False).total_ps

    model = bert(num_hidden_layers=2, max_position_embeddings=128)
    graph = optimize(model.encoder_graph(2, 128))
    again = lower(graph, CORE, Autocast("matmult"), 40000).program
    assert total_ps(interleave(again)) < total_ps(written)


def test_an_engine_takes_what_is_ready_before_what_is_not() -> None:
    made = interleave(two_chains())
    (block,) = (block for block, _ in made.leaves())
    order = [made.forms[form].mnemonic for form in block.form]
    # The second exponential may begin as soon as the first has left the Scalar engine, and need not
    # wait for the sum that the text has before it.
    assert order == [*["memset"] * 2, *["activation"] * 2, *["tensor_tensor"] * 2]
