from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from emuron.isa.tensor import AccessPattern, Indirection
from tests.isa.bench import Bench, integers, normals
from tests.isa.generations import (
    layouts,
    on_every_generation,
)


def naive_product(a, b):
    """Return a.T @ b by its definition, in Python's integers."""
    rows, columns, depth = a.shape[1], b.shape[1], a.shape[0]
    a, b = a.astype(int).tolist(), b.astype(int).tolist()
    return np.array(
        [
            [sum(a[k][m] * b[k][n] for k in range(depth)) for n in range(columns)]
            for m in range(rows)
        ]
    )


def _refused(bench, match, dst=(4, 16), stationary=(8, 4), moving=(8, 16), **more):
    kinds = more.pop("kinds", ("float32", "bfloat16", "bfloat16"))
    where = more.pop("where", ("psum", "sbuf", "sbuf"))
    with pytest.raises(HardwareLimitError, match=match):
        bench.form(
            "nc_matmul",
            dst=bench.empty(dst, kinds[0], where[0]),
            stationary=bench.empty(stationary, kinds[1], where[1]),
            moving=bench.empty(moving, kinds[2], where[2]),
            **more,
        )


@on_every_generation(
    "nc_matmul",
    examples=20,
    depth=st.integers(1, 6),
    size=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    kinds=st.sampled_from(
        [
            ("bfloat16", "bfloat16"),
            ("float16", "bfloat16"),
            ("float8_e4m3", "float8_e5m2"),
            ("float32", "float32"),
            ("tfloat32", "float32"),
        ]
    ),
    lay=st.tuples(layouts, layouts, layouts),
)
def test_nc_matmul_equals_the_definition(core, depth, size, kinds, lay):
    bench = Bench(core)
    a, b = integers((depth, size[0])), integers((depth, size[1]), 1)
    dst = bench.room(size, lay[0], where="psum")
    stationary, moving = bench.lay(a, lay[1], kinds[0]), bench.lay(b, lay[2], kinds[1])
    bench.run("nc_matmul", dst=dst, stationary=stationary, moving=moving)
    np.testing.assert_array_equal(bench.seen(dst), naive_product(a, b))


@pytest.mark.parametrize("accumulate", [None, True])
def test_the_second_nc_matmul_adds(bench, accumulate):
    a, b = bench.tile(integers((8, 4))), bench.tile(integers((8, 16), 1))
    dst = bench.empty((4, 16), where="psum")
    bench.run("nc_matmul", dst=dst, stationary=a, moving=b)
    bench.run("nc_matmul", dst=dst, stationary=a, moving=b, accumulate=accumulate)
    expected = 2 * naive_product(bench.read(a), bench.read(b))
    np.testing.assert_array_equal(bench.values(dst), expected)


def test_nc_matmul_overwrites_without_accumulate(bench):
    a, b = bench.tile(integers((8, 4))), bench.tile(integers((8, 16), 1))
    dst = bench.empty((4, 16), where="psum")
    for _ in range(2):
        bench.run("nc_matmul", dst=dst, stationary=a, moving=b, accumulate=False)
    np.testing.assert_array_equal(bench.values(dst), naive_product(bench.read(a), bench.read(b)))


def test_undecided_nc_matmul_accumulates_element_by_element(bench):
    # Overlapping regions: what the first product wrote is added to, the rest overwritten.
    a, b = bench.tile(integers((8, 4))), bench.tile(integers((8, 24), 1))
    dst = bench.empty((4, 24), where="psum")
    expected = naive_product(bench.read(a), bench.read(b)).astype(float)
    half = AccessPattern(dst.tensor, (4, 16), (24, 1))
    moving = AccessPattern(b.tensor, (8, 16), (24, 1))
    bench.run("nc_matmul", dst=half, stationary=a, moving=moving)
    bench.run("nc_matmul", dst=dst, stationary=a, moving=b)
    expected[:, :16] *= 2
    np.testing.assert_array_equal(bench.values(dst), expected)


def test_a_tile_equals_the_slice_of_the_whole_product():
    bench = Bench(catalog.chip("trn2").core)
    a, b = normals((300, 40)), normals((300, 50), 1)
    whole = bench.machine.backend.matmul_chunked(a.T, b)
    dst = bench.empty((8, 18), where="psum")
    for start in range(0, 300, 128):
        rows = slice(start, min(300, start + 128))
        stationary, moving = bench.tile(a[rows, 5:13]), bench.tile(b[rows, 7:25])
        bench.run("nc_matmul", dst=dst, stationary=stationary, moving=moving)
    np.testing.assert_array_equal(bench.read(dst), whole[5:13, 7:25])


def test_double_row_contracts_two_rows_of_each_partition(trn2):
    a, b = integers((8, 2, 4)), integers((8, 2, 16), 1)
    dst = trn2.empty((4, 16), where="psum")
    stationary, moving = trn2.tile(a, "float8_e4m3"), trn2.tile(b, "float8_e4m3")
    trn2.run("nc_matmul", dst=dst, stationary=stationary, moving=moving, perf_mode="double_row")
    expected = naive_product(a[:, 0], b[:, 0]) + naive_product(a[:, 1], b[:, 1])
    np.testing.assert_array_equal(trn2.values(dst), expected)


def test_nc_matmul_takes_strided_operands(bench):
    a, b = bench.tile(integers((8, 4, 2))), bench.tile(integers((8, 3, 8), 1))
    stationary = AccessPattern(a.tensor, (8, 4), (8, 2), 1)  # every second element
    moving = AccessPattern(b.tensor, (8, 3, 4), (24, 8, 2))
    dst = bench.empty((4, 3, 4), where="psum")
    bench.run("nc_matmul", dst=dst, stationary=stationary, moving=moving)
    expected = naive_product(bench.read(a)[:, :, 1], bench.read(b)[:, :, ::2].reshape(8, 12))
    np.testing.assert_array_equal(bench.values(dst).reshape(4, 12), expected)


def test_nc_matmul_refuses_a_destination_in_sbuf(bench):
    _refused(bench, r"dst must lie in psum.*lies in sbuf", where=("sbuf", "sbuf", "sbuf"))


def test_nc_matmul_refuses_operands_in_psum(bench):
    _refused(bench, "moving must lie in sbuf", where=("psum", "sbuf", "psum"))


def test_nc_matmul_refuses_more_than_128_stationary_columns(bench):
    _refused(bench, "stationary has 129 columns; the limit is 128", (128, 16), (8, 129))


def test_nc_matmul_refuses_more_than_512_moving_columns(trn2):
    _refused(trn2, "moving has 513 columns; the limit is 512", (4, 513), moving=(8, 513))


def test_nc_matmul_refuses_unequal_contraction(bench):
    _refused(bench, "stationary has 8 partitions and moving 16", moving=(16, 16))


def test_nc_matmul_refuses_a_destination_of_another_size(bench):
    _refused(bench, r"the product is \[4, 16\]", dst=(4, 17))


def test_nc_matmul_refuses_float32_with_bfloat16(bench):
    kinds = ("float32", "float32", "bfloat16")
    _refused(bench, "float32 and tfloat32 multiply only with each other", kinds=kinds)


def test_nc_matmul_refuses_integers(bench):
    _refused(bench, "stationary.* is int8", kinds=("float32", "int8", "int8"))


def test_nc_matmul_refuses_double_row_where_there_is_none(trn1):
    kinds = ("float32", "float8_e4m3", "float8_e4m3")
    _refused(
        trn1,
        "double_row does not exist on NeuronCore-v2",
        stationary=(8, 2, 4),
        moving=(8, 2, 16),
        kinds=kinds,
        perf_mode="double_row",
    )


def test_nc_matmul_refuses_a_product_across_psum_banks(trn2):
    # One bank is 2 KiB a partition, 512 fp32.
    dst = trn2.empty((4, 1024), where="psum")
    across = AccessPattern(dst.tensor, (4, 16), (1024, 1), 504)
    with pytest.raises(HardwareLimitError, match="one PSUM bank of 2048 bytes"):
        trn2.form(
            "nc_matmul", dst=across, stationary=trn2.empty((8, 4)), moving=trn2.empty((8, 16))
        )


@pytest.mark.parametrize(
    ("position", "size", "match"),
    [
        ((0,), (64, 64), "Give both as"),
        ((0, 0), (48, 64), "row tile starts at 0 with size 48"),
        ((0, 32), (64, 64), "column tile starts at 32 with size 64"),
        ((0, 0), (128, 64), "stationary is 8 x 100"),
    ],
)
def test_nc_matmul_refuses_array_tiles_that_do_not_exist(bench, position, size, match):
    shapes = {"dst": (100, 16), "stationary": (8, 100)}
    _refused(bench, match, **shapes, tile_position=position, tile_size=size)


def test_a_wide_product_is_charged_by_its_columns_and_a_narrow_one_by_the_floor(bench):
    # hardware.md §2.10: MM = max(N, 64) · passes + bubble, LS = ceil(M / 4) set up before.
    def cost(columns, kind):
        return bench.form(
            "nc_matmul",
            dst=bench.empty((100, columns), where="psum"),
            stationary=bench.empty((128, 100), kind),
            moving=bench.empty((128, columns), kind),
        ).cost

    bubble = bench.core.timing.matmul_bubble_cycles
    assert cost(512, "bfloat16").cycles == 512 + bubble
    assert cost(512, "float32").cycles == 4 * 512 + bubble
    assert cost(16, "bfloat16").cycles == 64 + bubble
    assert cost(512, "bfloat16").setup_cycles == 25
    assert cost(512, "bfloat16").flops == 2 * 128 * 100 * 512


@pytest.mark.parametrize("later", ["trn2", "trn3"])
@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
def test_a_transpose_through_the_array_keeps_every_bit(later, kind, request):
    # NKI: from v3 on transposes are bit-accurate, NaN and Inf included.
    bench = request.getfixturevalue(later)
    size = 16 if kind == "bfloat16" else 32
    bits = np.random.default_rng(0).integers(0, 2**size, (16, 12))
    data, identity = bench.tile(bits, kind, bits=True), bench.tile(np.eye(16), kind)
    dst = bench.empty((12, 16), kind, "psum")
    bench.run("nc_matmul", dst=dst, stationary=data, moving=identity, is_transpose=True)
    np.testing.assert_array_equal(bench.read(dst).view(f"uint{size}"), bits.T)


def test_a_permutation_instead_of_the_identity_permutes(trn2):
    x = integers((4, 3))
    order = np.eye(4)[[2, 0, 3, 1]]
    dst = trn2.empty((3, 4), where="psum")
    trn2.run(
        "nc_matmul",
        dst=dst,
        stationary=trn2.tile(x),
        moving=trn2.tile(order),
        is_transpose=True,
    )
    expected = [[sum(x[k, m] * order[k, n] for k in range(4)) for n in range(4)] for m in range(3)]
    np.testing.assert_array_equal(trn2.values(dst), expected)


def test_the_tile_of_the_array_is_where_the_operands_lie(trn2):
    match = r"dst starts at partition 0 and tile_position=\(0, 64\)"
    _refused(trn2, match, tile_position=(0, 64), tile_size=(128, 64))


def test_a_run_time_index_shifts_an_operand_of_a_matmul(bench):
    a, b = integers((8, 3, 4)), integers((8, 16), 1)
    stationary, index = bench.tile(a), bench.tile([[2]], "int32")
    rule = Indirection("scalar", index, stride=4, limit=3)
    view = AccessPattern(stationary.tensor, (8, 4), (12, 1), 0, indirection=rule)
    dst = bench.empty((4, 16), where="psum")
    bench.run("nc_matmul", dst=dst, stationary=view, moving=bench.tile(b))
    np.testing.assert_array_equal(bench.values(dst), naive_product(a[:, 2], b))
