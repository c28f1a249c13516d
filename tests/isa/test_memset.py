from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from tests.isa.bench import Bench
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1.5, "float32"), (0.1, "bfloat16"), (-3, "int8"), (2**31 - 1, "int32"), (0, "bfloat16")],
)
def test_memset_fills(bench, value, kind):
    dst = bench.empty((3, 4), kind)
    bench.run("memset", dst=dst, value=value)
    np.testing.assert_array_equal(bench.read(dst), np.full((3, 4), value).astype(dst.dtype.np))


def test_memset_refuses_a_fraction_in_integers(bench):
    with pytest.raises(HardwareLimitError, match=r"value=0.5 does not fit int8"):
        bench.form("memset", dst=bench.empty((3, 4), "int8"), value=0.5)


def test_memset_refuses_packed_values_other_than_zero():
    bench = Bench(catalog.chip("trn3").core)
    dst = bench.empty((4, 4), "float8_e4m3fn_x4")
    bench.run("memset", dst=dst, value=0)
    np.testing.assert_array_equal(bench.read(dst), 0)
    with pytest.raises(HardwareLimitError, match="Only 0 is possible"):
        bench.form("memset", dst=dst, value=1.0)


@on_every_generation(
    "memset",
    shape=shapes,
    kind=st.sampled_from(KINDS),
    value=st.integers(0, 127),
    where=places,
    lay=layouts,
)
def test_every_element_gets_the_value(core, shape, kind, value, where, lay):
    bench = Bench(core)
    dst = bench.room(shape, lay, kind, where)
    bench.run("memset", dst=dst, value=float(value))
    assert bench.seen(dst).astype(int).tolist() == [[value] * shape[1]] * shape[0]


def test_memset_keeps_all_bits_of_an_integer(bench):
    dst = bench.empty((1, 2), "int32")
    bench.run("memset", dst=dst, value=float(2**24 + 1))
    assert bench.read(dst).tolist() == [[2**24 + 1] * 2]


@pytest.mark.parametrize(("value", "kind"), [(-1, "uint8"), (256, "uint8"), (128, "int8")])
def test_memset_refuses_an_integer_beyond_the_type(bench, value, kind):
    with pytest.raises(HardwareLimitError, match=f"value={value} does not fit {kind}"):
        bench.form("memset", dst=bench.empty((3, 4), kind), value=value)


def test_zeros_of_16_bit_floats_take_half_the_time(bench):
    def cycles(value, kind):
        return bench.form("memset", dst=bench.empty((3, 1024), kind), value=value).cost.cycles

    assert cycles(0, "bfloat16") == 512  # ISA v2.26
    assert cycles(1, "bfloat16") == cycles(0, "float32") == 1024
