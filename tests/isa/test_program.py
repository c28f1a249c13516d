"""When two programs are alike: the same instructions on tensors of the same kind."""

from __future__ import annotations

import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.hardware import catalog
from emuron.nki.recorder import recorder, recording

CORE = catalog.chip("trn2").core


def program(value=1.0, columns=4, column=0, trip=None, dtype="float32", core=CORE):
    """Return a program of fillings, in a loop of `trip` iterations if that is given."""

    def write():
        tile = nl.ndarray((4, columns), dtype)
        if trip is None:
            nisa.memset(tile[:, column : column + 2], value)
            return
        for i in recorder().loop(trip):
            nisa.memset(tile[0:1, nl.ds(i, 1)], value)

    return recording(core, "test", write)


def test_programs_recorded_alike_are_alike():
    assert program().is_like(program())
    assert program(trip=4).is_like(program(trip=4))


@pytest.mark.parametrize(
    "options",
    [
        {"value": 2.0},
        {"columns": 8},
        {"column": 1},
        {"dtype": "bfloat16"},
        {"trip": 4},
        {"core": catalog.chip("trn3").core},
    ],
)
def test_another_number_shape_place_dtype_loop_or_core_makes_another_program(options):
    assert not program().is_like(program(**options))
    assert not program(**options).is_like(program())


def test_loops_of_different_lengths_are_different():
    assert not program(trip=4).is_like(program(trip=3))
