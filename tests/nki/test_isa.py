"""nki.isa: generated signatures, enumerations, arguments of earlier versions, the stub."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import HardwareLimitError, UnknownNameError, UsageError
from emuron.isa.instruction import REGISTRY
from emuron.nki.isa_stub import STUB, stub


def names(function):
    return list(inspect.signature(function).parameters)


def test_every_instruction_has_a_function_with_its_documentation():
    for name, cls in REGISTRY.items():
        if not cls.exposed:
            continue
        function = getattr(nisa, name)
        assert function.__doc__ == cls.__doc__
        assert "name" in names(function)


def test_nc_matmul_has_the_signature_of_nki_0_6():
    assert names(nisa.nc_matmul)[:10] == [
        "dst",
        "stationary",
        "moving",
        "is_stationary_onezero",
        "is_moving_onezero",
        "is_transpose",
        "accumulate",
        "tile_position",
        "tile_size",
        "perf_mode",
    ]


def test_an_unknown_instruction_lists_the_known():
    with pytest.raises(AttributeError, match="nc_matmul"):
        nisa.no_such_instruction  # noqa: B018


def test_members_of_enumerations_equal_their_names_and_keep_their_numbers():
    assert nisa.engine.vector == "vector"
    assert {nisa.engine.vector: 1}["vector"] == 1
    assert nisa.engine(5) is nisa.engine.vector
    assert nisa.dge_mode.none.value == 3
    assert nisa.matmul_perf_mode.double_row.value == "double_row"
    assert nisa.constants.oob_mode.skip is nisa.oob_mode.skip
    assert nisa.vector_engine is nisa.engine.vector
    assert nisa.nc_version.gen2 < nisa.nc_version.gen3 < nisa.nc_version.gen4


def test_a_number_stands_for_a_member_as_in_nki_0_2(active):
    tile = nl.zeros((2, 4), nl.float32)
    with pytest.warns(DeprecationWarning, match="a number in place of a member"):
        nisa.tensor_copy(tile, tile, engine=3)
    assert active.program.forms[-1].engine == "gpsimd"
    with pytest.raises(UnknownNameError, match="engine"):
        nisa.tensor_copy(tile, tile, engine=77)


def test_numpy_functions_stand_for_operators(active, in_sbuf):
    x = in_sbuf(np.array([[1.0, 5.0]], np.float32))
    nisa.tensor_tensor(x, x, x, np.add)
    made = nl.ndarray((1, 1), nl.float32)
    nisa.tensor_reduce(made, np.max, x, axis=1)
    assert active.contents(made).tolist() == [[10.0]]


def test_a_scalar_operand_of_a_wrong_type_is_refused(active):
    tile = nl.zeros((2, 4), nl.float32)
    with pytest.raises(UsageError, match="scalar operand is 'two'"):
        nisa.tensor_scalar(tile, tile, nl.add, "two")


def test_a_refusal_is_no_error_within_another(active):
    tile = nl.ndarray((4, 4), nl.float32)
    with pytest.raises(HardwareLimitError) as told:
        nisa.tensor_tensor(tile, tile, nl.ndarray((4, 5), nl.float32), nl.add)
    assert told.value.__context__ is None


def test_an_operator_of_a_wrong_type_is_refused(active):
    tile = nl.zeros((2, 4), nl.float32)
    with pytest.raises(UsageError, match=r"nl\.add"):
        nisa.tensor_tensor(tile, tile, tile, 3)


def test_renamed_keywords_of_nc_matmul_warn_and_work(active):
    tile = nl.zeros((128, 128), nl.float32)
    product = nl.ndarray((128, 128), nl.float32, nl.psum)
    with pytest.warns(DeprecationWarning, match="is_moving_onezero"):
        nisa.nc_matmul(product, tile, tile, is_moving_zero=True)
    assert active.program.forms[-1].example.is_moving_onezero is True
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        nisa.nc_matmul(product, tile, tile, colour="red")


def test_a_keyword_without_effect_warns(active, in_sbuf):
    x = in_sbuf(np.ones((2, 3), np.float32))
    with pytest.warns(DeprecationWarning, match="dtype= has no effect"):
        nisa.scalar_tensor_tensor(x, x, nl.add, 1.0, nl.multiply, x, dtype=nl.float32)
    assert active.contents(x).tolist() == [[2.0] * 3] * 2


def test_dma_copy_takes_the_oob_mode_in_the_third_place_as_before_0_6(active, in_hbm):
    source = in_hbm(np.ones((2, 3), np.float32))
    with pytest.warns(DeprecationWarning, match="oob_mode"):
        nisa.dma_copy(nl.ndarray((2, 3), nl.float32), source, nisa.oob_mode.skip)
    assert active.program.forms[-1].example.oob_mode == "skip"


@pytest.mark.parametrize("order", ["0.2", "0.6"])
def test_dma_compute_adds_a_list_of_sources_in_both_orders(active, in_hbm, order):
    a, b = (in_hbm(np.full((2, 3), n, np.float32)) for n in (1, 2))
    made = nl.ndarray((2, 3), nl.float32)
    if order == "0.6":
        nisa.dma_compute(made, [a, b], nl.add)
    else:
        with pytest.warns(DeprecationWarning, match="before scales"):
            nisa.dma_compute(made, [a, b], [1.0, 1.0], nl.add)
    assert active.contents(made).tolist() == [[3.0] * 3] * 2


@pytest.mark.parametrize("order", ["0.2", "0.6"])
def test_affine_select_takes_the_offset_in_both_places(active, in_sbuf, order):
    x = in_sbuf(np.ones((3, 3), np.float32))
    made = nl.ndarray((3, 3), nl.float32)
    if order == "0.6":
        nisa.affine_select(made, [[-1, 3]], 1, x, 0.0, nl.greater_equal, offset=0)
    else:
        with pytest.warns(DeprecationWarning, match="offset last"):
            nisa.affine_select(made, [[-1, 3]], 0, 1, x, 0.0, nl.greater_equal)
    # p − i >= 0: the lower triangle.
    assert active.contents(made).tolist() == np.tril(np.ones((3, 3))).tolist()


def test_the_stub_is_current():
    assert STUB.read_text(encoding="utf-8") == stub(), "run python -m emuron.nki.isa_stub"


@pytest.mark.parametrize("name", ["tensor_copy_dynamic_src", "tensor_copy_dynamic_dst"])
def test_dynamic_copies_of_0_2_are_copies(active, in_sbuf, name):
    source = in_sbuf(np.ones((2, 3), np.float32))
    copy = nl.ndarray((2, 3), nl.float32)
    with pytest.warns(DeprecationWarning, match="tensor_copy takes views made by ap"):
        getattr(nisa, name)(copy, source)
    assert active.contents(copy).tolist() == [[1.0] * 3] * 2
