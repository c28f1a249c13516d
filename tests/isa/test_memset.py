from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from tests.isa.bench import Bench


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
