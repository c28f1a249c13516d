"""What is computed twice takes time once, where the first result is still there."""

import pytest

from emuron.sim.redundancy import redundant_rows
from emuron.sim.timing import TimingSimulator
from tests.sim.programs import ProgramWriter


@pytest.fixture
def writer():
    """Return a program that has added `a` and `b` into `once`."""
    made = ProgramWriter()
    made.tiles = {name: made.sbuf(name, 512) for name in ("a", "b", "once", "again", "other")}
    made.memset(made.tiles["a"])
    made.memset(made.tiles["b"])
    add(made, "once")
    return made


def add(writer, target):
    """Add a and b into a tile."""
    writer.add(writer.tiles[target], writer.tiles["a"], writer.tiles["b"])


def test_the_same_sum_in_a_second_tensor_is_redundant(writer):
    add(writer, "again")
    assert redundant_rows(writer.program()) == [3]


def test_a_redundant_row_takes_no_time(writer):
    before = TimingSimulator(writer.chip).run(writer.program(), collect=False)
    add(writer, "again")
    after = TimingSimulator(writer.chip).run(writer.program(), collect=False)
    assert after.busy_ps["vector"] == before.busy_ps["vector"]


def test_a_sum_of_what_has_changed_is_not(writer):
    writer.memset(writer.tiles["a"])
    add(writer, "again")
    assert redundant_rows(writer.program()) == []


def test_a_result_that_is_overwritten_does_not_count(writer):
    add(writer, "again")
    writer.memset(writer.tiles["once"])
    assert redundant_rows(writer.program()) == []


def test_a_second_result_that_is_changed_later_is_computed(writer):
    add(writer, "again")
    writer.add(writer.tiles["again"], writer.tiles["again"], writer.tiles["b"])
    assert redundant_rows(writer.program()) == []


def test_a_second_fill_of_another_tensor_is_not_redundant(writer):
    """A fill reads nothing: kernels fill tensors to have several."""
    writer.memset(writer.tiles["other"])
    assert redundant_rows(writer.program()) == []


def test_tensors_placed_by_hand_are_left_alone(writer):
    writer.tiles["again"].aliases = True
    add(writer, "again")
    assert redundant_rows(writer.program()) == []
