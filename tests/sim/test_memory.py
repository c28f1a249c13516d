"""Placement of tensors in SBUF and PSUM."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.errors import CapacityError
from emuron.isa.affine import Affine, LoopIndex
from emuron.isa.program import Block, Loop
from emuron.isa.tensor import AccessPattern, Tensor
from emuron.sim.liveness import lives
from emuron.sim.memory import place, place_cores
from tests.sim.programs import ProgramWriter


def test_tensors_in_use_at_one_time_get_different_bytes() -> None:
    writer = ProgramWriter()
    a, b, c = (writer.sbuf(name, 100) for name in "abc")
    writer.add(c, a, b)
    place(writer.program())
    spans = sorted((t.address[1], t.address[1] + 200) for t in (a, b, c))
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_bytes_are_reused_after_the_last_access_and_make_rivals() -> None:
    writer = ProgramWriter(sbuf_bytes=800)
    tensors = [writer.sbuf(f"t{i}", 100) for i in range(6)]
    for source, target in pairwise(tensors):
        writer.copy(target, source)
    place(writer.program())
    assert {t.address[1] for t in tensors} == {0, 200, 400, 600}
    assert tensors[4].address == tensors[0].address
    assert tensors[0] in tensors[4].rivals
    assert tensors[4] in tensors[0].rivals


def test_the_bytes_freed_the_longest_time_ago_are_reused_first() -> None:
    writer = ProgramWriter(sbuf_bytes=800)
    a, b, c, d, e = (writer.sbuf(name, 100) for name in "abcde")
    writer.copy(b, a)
    writer.copy(c, b)
    writer.copy(d, c)
    writer.copy(e, d)
    place(writer.program())
    assert e.address == a.address


def test_a_tensor_used_inside_and_outside_a_loop_lives_for_all_of_it() -> None:
    writer = ProgramWriter()
    weights, x, y = (writer.sbuf(name, 100) for name in ("weights", "x", "y"))
    writer.memset(weights)
    loop, inner = Loop(LoopIndex("i", 8)), Block()
    writer.body.append(loop)
    loop.body.append(inner)
    writer.copy(x, weights, block=inner)
    writer.copy(y, x, block=inner)
    found = {life.tensor: (life.first, life.last) for life in lives(writer.program())}
    assert found == {weights: (0, 2), x: (1, 2), y: (2, 2)}
    place(writer.program())
    assert len({weights.address, x.address, y.address}) == 3


def test_a_tensor_that_carries_data_from_one_iteration_to_the_next_lives_for_the_loop() -> None:
    writer = ProgramWriter()
    carried, x, y = (writer.sbuf(name, 100) for name in ("carried", "x", "y"))
    loop, inner = Loop(LoopIndex("i", 8)), Block()
    writer.body.append(loop)
    loop.body.append(inner)
    writer.memset(y, block=inner)
    writer.copy(x, carried, block=inner)
    writer.copy(carried, x, block=inner)
    writer.memset(y, block=inner)
    found = {life.tensor: (life.first, life.last) for life in lives(writer.program())}
    assert found[carried] == (0, 3)


def test_a_tensor_filled_part_by_part_lives_for_the_loop() -> None:
    writer = ProgramWriter()
    whole, part = writer.sbuf("whole", 800), writer.sbuf("part", 100)
    index = LoopIndex("i", 8)
    loop, inner = Loop(index), Block()
    writer.body.append(loop)
    loop.body.append(inner)
    writer.memset(part, block=inner)
    slot = AccessPattern(whole, (128, 100), (800, 1), Affine.of(index) * 100)
    writer.issue(inner, "tensor_copy", slot, AccessPattern(part))
    found = {life.tensor: (life.first, life.last) for life in lives(writer.program())}
    assert found == {whole: (0, 1), part: (0, 1)}


def test_psum_is_given_out_in_whole_banks() -> None:
    writer = ProgramWriter()
    a, b = writer.psum("a", 10), writer.psum("b", 10)
    source = writer.sbuf("source", 10)
    writer.copy(a, source)
    writer.copy(b, source)
    writer.copy(source, a)
    writer.copy(source, b)
    placement = place(writer.program())
    assert sorted(t.address[1] for t in (a, b)) == [0, writer.core.psum_bank_bytes]
    assert placement.psum_peak_bytes == 2 * writer.core.psum_bank_bytes


def test_a_fixed_address_is_kept_and_avoided() -> None:
    writer = ProgramWriter()
    fixed, other = writer.sbuf("fixed", 100), writer.sbuf("other", 100)
    fixed.address, fixed.aliases = (0, 0), True
    writer.copy(other, fixed)
    place(writer.program())
    assert fixed.address == (0, 0)
    assert other.address[1] >= 200


def test_bytes_that_tensors_share_count_once_in_the_peak() -> None:
    writer = ProgramWriter()
    one, other, apart = (writer.sbuf(name, 100) for name in ("one", "other", "apart"))
    for tensor, byte in ((one, 0), (other, 50), (apart, 400)):
        tensor.address, tensor.aliases = (0, byte), True
    writer.add(one, other, apart)
    assert place(writer.program()).sbuf_peak_bytes == 250 + 200


def test_too_many_bytes_raise_an_error_that_names_memory_need_limit_and_tensors() -> None:
    writer = ProgramWriter(sbuf_bytes=500)
    a, b, c = (writer.sbuf(name, 100) for name in ("apple", "banana", "cherry"))
    writer.add(c, a, b)
    with pytest.raises(CapacityError) as caught:
        place(writer.program())
    text = str(caught.value)
    for word in ("SBUF", "600", "500", "apple", "cherry", "layer"):
        assert word in text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=30))
def test_no_two_tensors_share_a_byte_while_both_live(copies: list[tuple[int, int]]) -> None:
    writer = ProgramWriter(sbuf_bytes=8000)
    tensors = [writer.sbuf(f"t{i}", 50 + 37 * i) for i in range(8)]
    for target, source in copies:
        if target != source:
            views = [
                AccessPattern(tensors[t], (128, 50), (tensors[t].shape[1], 1))
                for t in (target, source)
            ]
            writer.issue(None, "tensor_copy", *views)
    program = writer.program()
    placement = place(program)
    held = lives(program)
    for a, b in combinations(held, 2):
        shared = _share_bytes(a.tensor, b.tensor)
        if a.first <= b.last and b.first <= a.last:
            assert not shared
    rows = range(max((life.last for life in held), default=0) + 1)
    naive = max(
        sum(life.tensor.partition_bytes for life in held if life.first <= row <= life.last)
        for row in rows
    )
    assert placement.sbuf_peak_bytes == naive


def _share_bytes(a: Tensor, b: Tensor) -> bool:
    spans = [range(t.address[1], t.address[1] + t.partition_bytes) for t in (a, b)]
    return bool(set(spans[0]) & set(spans[1]))


def test_programs_that_are_alike_get_the_same_places_and_rivals_of_their_own() -> None:
    def core() -> tuple[ProgramWriter, list[Tensor]]:
        writer = ProgramWriter(sbuf_bytes=800)
        tensors = [writer.sbuf(f"t{i}", 100) for i in range(6)]
        for source, target in pairwise(tensors):
            writer.copy(target, source)
        return writer, tensors

    (one, first), (other, second) = core(), core()
    (alone, third) = core()
    placements = place_cores([one.program(), other.program()])
    assert placements[0] is placements[1]
    place(alone.program())
    for a, b, c in zip(first, second, third, strict=True):
        assert a.address == b.address == c.address
        assert [second.index(rival) for rival in b.rivals] == [third.index(r) for r in c.rivals]
