"""What has been written, against a mask of every byte."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emuron.sim.written import Written

ROWS, PITCH = 6, 8


@st.composite
def rectangles(draw):
    top, bottom = sorted(draw(st.lists(st.integers(0, ROWS), min_size=2, max_size=2, unique=True)))
    left, right = sorted(draw(st.lists(st.integers(0, PITCH), min_size=2, max_size=2, unique=True)))
    return top, bottom, left, right


@given(st.lists(rectangles(), max_size=12), rectangles())
def test_written_knows_what_a_mask_of_every_byte_knows(parts, asked):
    written = Written(ROWS * PITCH, PITCH)
    mask = np.zeros((ROWS, PITCH), bool)
    for part in parts:
        top, bottom, left, right = part
        if not written.add(part):
            continue  # such a write is left to the mask of the memory
        mask[top:bottom, left:right] = True
        assert written.unwritten == mask.size - np.count_nonzero(mask)
    top, bottom, left, right = asked
    if written.covers(asked):
        assert mask[top:bottom, left:right].all()
    assert written.touches(asked) == (mask[top:bottom, left:right].any() and not mask.all())
    assert (written.make_mask().reshape(ROWS, PITCH) == mask).all()


def test_adjacent_rectangles_become_one():
    written = Written(ROWS * PITCH, PITCH)
    for column in (0, 4, 2, 6):
        assert written.add((1, 3, column, column + 2))
    assert written.rectangles == [(1, 3, 0, 8)]


def test_equal_and_larger_rectangles_are_taken():
    written = Written(ROWS * PITCH, PITCH)
    assert written.add((0, 2, 0, 4))
    assert written.add((0, 2, 0, 4))
    assert written.add((0, 3, 0, 6))
    assert written.unwritten == ROWS * PITCH - 18


def test_a_partial_overlap_is_left_to_a_mask():
    written = Written(ROWS * PITCH, PITCH)
    assert written.add((0, 2, 0, 4))
    assert not written.add((1, 3, 2, 6))
    written.make_mask()
    assert not written.add((4, 5, 0, 1))


def test_a_write_to_what_is_all_written_changes_nothing():
    written = Written(ROWS * PITCH, PITCH)
    assert written.add((0, ROWS, 0, PITCH))
    assert written.add((0, 1, 0, 1))
    assert written.unwritten == 0


def test_all_rows_make_everything_written():
    written = Written(ROWS * PITCH, PITCH)
    for row in range(ROWS):
        assert written.add((row, row + 1, 0, PITCH))
    assert written.unwritten == 0
    written.forget()
    assert written.unwritten == ROWS * PITCH
