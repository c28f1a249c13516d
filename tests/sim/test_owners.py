"""Values lost in placed memory, and rows that one transfer writes twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import LostValueError, RaceWarning


def run(body):
    """Run a body of nki calls as a kernel with data."""
    nki.simulate(lambda x: body())(np.zeros((1, 1), np.float32))


def tile(columns, byte, dtype="float32", name=""):
    return nl.ndarray((4, columns), dtype, address=(0, byte), name=name)


def test_a_tile_that_was_reused_too_early_is_named_with_the_line():
    def body():
        first = tile(4, 0, name="first")
        nisa.memset(first, 1.0)
        second = tile(4, 8, name="second")
        nisa.memset(second[:, 0:1], 2.0)
        nl.copy(first)

    message = (
        r"^test_owners\.py:\d+: tensor_copy reads src: 16 bytes of 'first' \[4, 4\] float32 at "
        r"\(0, 0\) were overwritten through 'second' \[4, 4\] float32 at \(0, 8\)"
    )
    with pytest.raises(LostValueError, match=message):
        run(body)


def test_bytes_that_the_other_tensor_left_alone_can_be_read():
    def body():
        first, second = tile(4, 0), tile(4, 8)
        nisa.memset(first, 1.0)
        nisa.memset(second, 2.0)
        nl.copy(first[:, 0:2])

    run(body)


def test_a_tile_written_again_is_its_own_again():
    def body():
        first, second = tile(4, 0), tile(4, 0)
        nisa.memset(first, 1.0)
        nisa.memset(second, 2.0)
        nl.copy(second)
        nisa.memset(first, 3.0)
        nl.copy(first)

    run(body)


def test_buffers_taken_in_turn_lose_nothing():
    def body():
        for i in range(8):
            made = tile(4, 16 * (i % 2))
            nisa.memset(made, float(i))
            nl.copy(made)

    run(body)


@pytest.mark.parametrize(
    "again", [("uint32", 4, 0), ("bfloat16", 8, 0), ("float32", 3, 4), ("float32", 4, 0)]
)
def test_what_a_tensor_never_wrote_it_may_read(again):
    """The same bytes under another shape or dtype."""
    dtype, columns, byte = again

    def body():
        nisa.memset(tile(4, 0), 1.0)
        nl.copy(tile(columns, byte, dtype))

    run(body)


def test_one_buffer_under_two_dtypes_can_be_written_through_both():
    def body():
        numbers, bits = tile(4, 0), tile(4, 0, "uint32")
        nisa.memset(numbers, 1.0)
        nisa.memset(bits[:, 0:2], 7)
        nl.copy(numbers)

    run(body)


def test_lost_values_are_told_as_races_are():
    def body():
        first, second = tile(4, 0), tile(3, 0)
        nisa.memset(first, 1.0)
        nisa.memset(second, 2.0)
        nl.copy(first)

    with nki.races("warn"), pytest.warns(RaceWarning, match="were overwritten through"):
        run(body)
    with nki.races("off"):
        run(body)
    with pytest.raises(LostValueError):
        run(body)


TILES = [(0, 4), (4, 4), (8, 2), (2, 6), (0, 4)]  # of each tensor: first column and columns
actions = st.lists(
    st.tuples(
        st.sampled_from(["write", "read"]),
        st.integers(0, len(TILES) - 1),
        st.integers(0, 5),
        st.integers(1, 6),
    ),
    max_size=12,
)


def outcome(steps):
    """Follow the owner of every column; return how the first forbidden read fails, else "ok"."""
    owner, wrote = {}, set()
    for what, number, start, count in steps:
        first, columns = TILES[number]
        touched = range(first + min(start, columns - 1), first + min(start + count, columns))
        if what == "write":
            owner.update(dict.fromkeys(touched, number))
            wrote.update((number, column) for column in touched)
        elif any(column not in owner for column in touched):
            return "unwritten"
        elif any(owner[c] != number and (number, c) in wrote for c in touched):
            return "lost"
    return "ok"


@settings(max_examples=200, deadline=None)
@given(actions)
def test_lost_values_are_found_where_a_naive_bookkeeper_finds_them(steps):
    def body():
        made = [tile(columns, 4 * first) for first, columns in TILES]
        for what, number, start, count in steps:
            columns = TILES[number][1]
            view = made[number][:, min(start, columns - 1) : min(start + count, columns)]
            if what == "write":
                nisa.memset(view, 1.0)
            else:
                nl.copy(view)

    expected = outcome(steps)
    if expected == "ok":
        run(body)
    else:
        match = "was never written" if expected == "unwritten" else "were overwritten through"
        with pytest.raises(Exception, match=match):
            run(body)


def scatter(indices, rows, **options):
    """Scatter rows of two numbers to the rows of a tensor that indices name; return the tensor."""

    def kernel(values, index):
        out = nl.zeros((8, 2), "float32", buffer=nl.shared_hbm)
        chosen, tile = nl.load(index), nl.load(values)
        target = out.ap(pattern=[[2, len(rows)], [1, 2]], vector_offset=chosen, indirect_dim=0)
        nisa.dma_copy(dst=target, src=tile, **options)
        return out

    index = np.array(indices, np.int32).reshape(-1, 1)
    return nki.simulate(kernel)(np.array(rows, np.float32), index)


def test_two_values_for_one_row_warn_and_the_last_one_stays():
    with pytest.warns(
        RaceWarning, match="dma_copy writes different values to the same row"
    ) as told:
        out = scatter([3, 1, 3], [[1, 2], [3, 4], [5, 6]])
    assert told[0].filename == __file__
    assert out[3].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("indices", "rows", "options"),
    [
        ([3, 1, 3], [[1, 2], [3, 4], [1, 2]], {}),
        ([0, 1, 2], [[1, 2], [3, 4], [5, 6]], {}),
        ([99, 1, 99], [[1, 2], [3, 4], [5, 6]], {"oob_mode": nisa.oob_mode.skip}),
    ],
)
def test_equal_values_unique_rows_and_dropped_rows_do_not_warn(indices, rows, options):
    expected = np.zeros((8, 2))
    for index, row in zip(indices, rows, strict=True):
        if index < 8:
            expected[index] = row
    assert scatter(indices, rows, **options).tolist() == expected.tolist()
