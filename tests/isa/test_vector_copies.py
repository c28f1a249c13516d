from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError, OutOfBoundsError
from emuron.hardware import catalog
from emuron.isa.tensor import AccessPattern, Indirection
from tests.isa.bench import Bench, integers


@pytest.mark.parametrize("where", ["sbuf", "psum"])
def test_a_copy_of_equal_dtypes_keeps_every_bit(bench, where):
    bits = np.array([[0x7FC12345, 0x80000000, 1]], np.uint32)  # NaN payload, −0, a subnormal
    dst = bench.empty((1, 3), "float32", where)
    bench.run("tensor_copy", dst=dst, src=bench.tile(bits.view(np.float32)))
    np.testing.assert_array_equal(bench.read(dst).view(np.uint32), bits)


def test_a_copy_between_dtypes_rounds_and_saturates(bench):
    # NKI: fp32 to integer rounds to nearest even and saturates.
    dst = bench.empty((1, 5), "int8")
    bench.run("tensor_copy", dst=dst, src=bench.tile([[0.5, 1.5, -2.5, 300.0, -300.0]]))
    np.testing.assert_array_equal(bench.read(dst), [[0, 2, -2, 127, -128]])


def test_a_copy_reads_everything_before_it_writes(bench):
    tile = bench.tile(integers((2, 6)))
    before = bench.read(tile)
    source = AccessPattern(tile.tensor, (2, 5), (6, 1), 0)
    shifted = AccessPattern(tile.tensor, (2, 5), (6, 1), 1)
    bench.run("tensor_copy", dst=shifted, src=source)
    np.testing.assert_array_equal(bench.read(tile)[:, 1:], before[:, :5])


def test_a_run_time_index_shifts_the_view(bench):
    x = integers((4, 6, 5))
    src, index = bench.tile(x), bench.tile([[3]], "int32")
    rule = Indirection("scalar", index, stride=5, limit=6)
    view = AccessPattern(src.tensor, (4, 5), (30, 1), 0, indirection=rule)
    dst = bench.empty((4, 5))
    form = bench.run("tensor_copy", dst=dst, src=view)
    np.testing.assert_array_equal(bench.read(dst), x[:, 3])
    assert form.cost.cycles == bench.core.timing.dynamic_min_cycles


def test_a_run_time_index_beyond_its_range_is_an_error(bench):
    src, index = bench.tile(integers((4, 6, 5))), bench.tile([[6]], "int32")
    rule = Indirection("scalar", index, stride=5, limit=6)
    view = AccessPattern(src.tensor, (4, 5), (30, 1), 0, indirection=rule)
    with pytest.raises(OutOfBoundsError, match="the index of src is 6; legal indices are 0 to 5"):
        bench.run("tensor_copy", dst=bench.empty((4, 5)), src=view)


def test_the_scalar_engine_of_v2_has_no_copy(trn1, trn2):
    named = {"src": trn1.empty((4, 5)), "dst": trn1.empty((4, 5)), "engine": "scalar"}
    with pytest.raises(HardwareLimitError, match="Use activation with op=copy"):
        trn1.form("tensor_copy", **named)
    assert trn2.form("tensor_copy", **named).engine == "scalar"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("number", [False, True])
def test_a_predicated_copy_leaves_the_rest_alone(bench, reverse, number):
    old, new, predicate = integers((3, 4)), integers((3, 4), 1), integers((3, 4), 2, 0, 2)
    dst = bench.tile(old)
    bench.run(
        "tensor_copy_predicated",
        dst=dst,
        src=7.0 if number else bench.tile(new),
        predicate=bench.tile(predicate, "uint8"),
        reverse_pred=reverse,
    )
    for p in range(3):
        for i in range(4):
            chosen = (predicate[p, i] != 0) != reverse
            expected = (7 if number else new[p, i]) if chosen else old[p, i]
            assert bench.values(dst)[p, i] == expected


def test_a_predicated_copy_refuses_a_float_predicate(bench):
    with pytest.raises(HardwareLimitError, match=r"predicate .* is float32"):
        bench.form(
            "tensor_copy_predicated",
            dst=bench.empty((3, 4)),
            src=bench.empty((3, 4)),
            predicate=bench.empty((3, 4)),
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


def test_a_shuffle_picks_rows_within_each_quadrant(bench):
    x, old = integers((64, 3)), integers((64, 3), 1)
    mask = tuple(255 if i == 5 else (7 * i) % 32 for i in range(32))
    dst = bench.tile(old)
    bench.run("nc_stream_shuffle", dst=dst, src=bench.tile(x), shuffle_mask=mask)
    for row in range(64):
        quadrant, i = divmod(row, 32)
        expected = old[row] if i == 5 else x[32 * quadrant + (7 * i) % 32]
        np.testing.assert_array_equal(bench.values(dst)[row], expected)


def test_a_shuffle_broadcasts_one_row(bench):
    dst = bench.empty((32, 3))
    row = integers((1, 3))
    bench.run("nc_stream_shuffle", dst=dst, src=bench.tile(row), shuffle_mask=(0,) * 32)
    np.testing.assert_array_equal(bench.values(dst), np.repeat(row, 32, axis=0))


@pytest.mark.parametrize(
    ("mask", "match"), [((0,) * 31, "has 31 entries"), ((32,) + (0,) * 31, "holds 32")]
)
def test_a_shuffle_refuses_masks_of_another_kind(bench, mask, match):
    tiles = {"dst": bench.empty((32, 3)), "src": bench.empty((32, 3))}
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("nc_stream_shuffle", **tiles, shuffle_mask=mask)
