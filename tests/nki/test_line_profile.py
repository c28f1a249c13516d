"""Hints on real kernels: each finds its loss where it is, and is silent once that is mended."""

import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UsageError
from emuron.nki.kernel import Kernel
from emuron.nki.launch import run_kernel
from emuron.nki.line_profile import profile_run

X = nki.ShapeDtype((1024, 512), "float32")


def hints(kernel, *args):
    """Return the hints of a kernel, by rule, each with the source line that it names."""
    profile = profile_run(run_kernel(Kernel(kernel), args, execute=False))
    sources = {line.line: line.source for line in profile.lines}
    return {hint.rule: (sources.get(hint.line, hint.line), hint) for hint in profile.hints}


def tile(columns=512, dtype=nl.float32, buffer=nl.sbuf):
    return nl.ndarray((128, columns), dtype, buffer=buffer)


def activations(functions):
    def kernel(x):
        data = tile()
        nisa.dma_copy(dst=data, src=x[0:128])
        for function in functions:
            nisa.activation(data, function, data)

    return kernel


def test_alternating_functions_load_tables():
    found = hints(activations([nl.exp, nl.gelu] * 8), X)
    source, hint = found["activation-table-loads"]
    assert source == "nisa.activation(data, function, data)"
    assert hint.quantities["loads"] >= 15
    sorted_ = hints(activations([nl.exp] * 8 + [nl.gelu] * 8), X)
    assert "activation-table-loads" not in sorted_


@pytest.mark.parametrize(("columns", "is_hinted"), [(16, True), (512, False)])
def test_short_rows_waste_the_dma_engines(columns, is_hinted):
    def kernel(x):
        for start in range(0, 512, columns):
            nisa.dma_copy(dst=tile(columns), src=x[0:128, nl.ds(start, columns)])

    found = hints(kernel, X)
    assert ("small-dma-rows" in found) is is_hinted
    if is_hinted:
        assert found["small-dma-rows"][1].quantities["row_bytes"] == 64


@pytest.mark.parametrize(("dtype", "is_hinted"), [("float32", True), ("bfloat16", False)])
def test_fp32_products_take_four_passes(dtype, is_hinted):
    def kernel(x):
        left, right = tile(128, dtype), tile(512, dtype)
        nisa.dma_copy(dst=left, src=x[0:128, 0:128])
        nisa.dma_copy(dst=right, src=x[0:128, :])
        for _ in range(64):
            nisa.nc_matmul(tile(buffer=nl.psum), left, right)

    found = hints(kernel, nki.ShapeDtype((1024, 512), dtype))
    assert ("fp32-matmuls" in found) is is_hinted


def test_rows_by_index_need_software_descriptors():
    def kernel(x, index):
        rows = nl.load(index)
        for _ in range(8):
            nisa.dma_copy(dst=tile(), src=x.ap([[512, 128], [1, 512]], vector_offset=rows))

    found = hints(kernel, X, nki.ShapeDtype((128, 1), "int32"))
    _, hint = found["software-descriptors"]
    assert hint.quantities["transfers"] == 8


def test_narrow_tiles_are_short_and_use_few_lanes():
    def kernel(x):
        data = nl.ndarray((32, 16), nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=data, src=x[0:32, 0:16])
        for _ in range(64):
            nisa.tensor_scalar(data, data, nl.multiply, 2.0)

    found = hints(kernel, X)
    assert found["short-instructions"][1].quantities["elements"] == 16
    assert found["few-partitions"][1].quantities["partitions"] == 32


def test_a_tensor_loaded_in_every_iteration_is_named():
    def kernel(x, weights):
        for start in range(0, 1024, 128):
            left, right = tile(), tile()
            nisa.dma_copy(dst=left, src=x[nl.ds(start, 128)])
            nisa.dma_copy(dst=right, src=weights)
            nisa.tensor_tensor(left, left, right, nl.multiply)

    name, hint = hints(kernel, X, nki.ShapeDtype((128, 512), "float32"))["reread-tensor"]
    assert name == "weights"
    assert hint.quantities["times"] == 8


def test_products_that_wait_for_copies_out_of_psum():
    def kernel(x):
        left, right = tile(128), tile(512)
        nisa.dma_copy(dst=left, src=x[0:128, 0:128])
        nisa.dma_copy(dst=right, src=x[0:128, :])
        product, copy = tile(buffer=nl.psum), tile()
        for _ in range(32):
            nisa.nc_matmul(product, left, right, accumulate=False)
            nisa.tensor_copy(copy, product)

    source, hint = hints(kernel, X)["slow-psum-evictions"]
    assert source == "nisa.tensor_copy(copy, product)"
    assert hint.quantities["events"] == 31


@pytest.mark.parametrize(("tiles", "is_hinted"), [(1, True), (2, False)])
def test_a_chain_of_results_leaves_the_pipeline_empty(tiles, is_hinted):
    def kernel(x):
        data = [tile(), tile()]
        for one in data:
            nisa.dma_copy(dst=one, src=x[0:128])
        for turn in range(32):
            one = data[turn % tiles]
            nisa.tensor_scalar(one, one, nl.multiply, 2.0)

    found = hints(kernel, X)
    assert ("dependent-instructions" in found) is is_hinted
    if is_hinted:
        assert found["dependent-instructions"][1].quantities["events"] == 31


def test_a_run_without_a_trace_cannot_be_profiled():
    run = run_kernel(Kernel(activations([nl.exp])), [X], execute=False, collect=False)
    with pytest.raises(UsageError, match="collect=True"):
        profile_run(run)
