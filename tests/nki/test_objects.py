"""NKIObject: initialisers that are made, and Python's own."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass

import pytest

import emuron.nki.language as nl


def test_nki_objects_take_annotated_attributes_in_order():
    class Config(nl.NKIObject):
        size: int
        scale: float = 2.0
        name: str

    made = Config(3, name="n")
    assert (made.size, made.scale, made.name) == (3, 2.0, "n")
    assert Config().size is None


def test_a_dataclass_of_plain_attributes_takes_them_as_keywords():
    """nki-library has such classes (attention_cte's SectionParams)."""

    @dataclass
    class Section(nl.NKIObject):
        index = None
        offset = 0

    assert (Section(index=2).index, Section(index=2).offset) == (2, 0)


def test_a_class_with_annotations_keeps_its_plain_attributes_out_of_its_initialiser():
    @dataclass
    class Section(nl.NKIObject):
        index: int
        LIMIT = 4

    assert Section(3) == Section(index=3)
    with pytest.raises(TypeError, match="LIMIT"):
        Section(3, LIMIT=5)


def test_frozen_dataclasses_and_initialisers_of_their_own_work_as_in_python():
    @dataclasses.dataclass(frozen=True)
    class Frozen(nl.NKIObject):
        rows: int
        columns: int = 4

        def __post_init__(self):
            object.__setattr__(self, "size", self.rows * self.columns)

    class Own(nl.NKIObject):
        scale: float = 2.0

        def __init__(self, rows):
            self.rows = rows

    made = Frozen(3)
    assert (made.rows, made.columns, made.size) == (3, 4, 12)
    assert made == Frozen(3, 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.rows = 1
    assert (Own(5).rows, Own(5).scale) == (5, 2.0)


def test_an_initialiser_that_is_made_calls_post_init():
    # The language guide: the default initialiser ends with self.__post_init__().
    class Config(nl.NKIObject):
        rows: int
        columns: int = 4

        def __post_init__(self):
            self.size = self.rows * self.columns

    assert Config(3).size == 12
    assert Config(columns=2, rows=2).size == 4


def test_an_enumeration_may_be_an_object_of_kernels():
    class Norm(nl.NKIObject, enum.Enum):
        NONE = 0
        RMS = "rms"

    assert Norm("rms") is Norm.RMS
    assert [member.value for member in Norm] == [0, "rms"]
