"""Where tensors lie: addresses that kernels choose, shared bytes, memories, fillings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import CapacityError, HardwareLimitError, UninitializedReadError, UsageError


@st.composite
def placements(draw):
    """Draw tiles of bytes anywhere in a small corner of SBUF, each with a value."""
    return [
        (
            (draw(st.integers(1, 4)), draw(st.integers(1, 12))),
            (draw(st.sampled_from([0, 32])), draw(st.integers(0, 16))),
            draw(st.integers(1, 200)),
        )
        for _ in range(draw(st.integers(1, 6)))
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(placements(), st.randoms(use_true_random=False))
def test_placed_tiles_are_windows_on_one_memory(active, tiles, random):
    memory = np.zeros((128, 64), np.int64)
    base = nl.ndarray((128, 64), nl.uint8, address=(0, 0))
    nisa.memset(base, 0)
    made = [nl.ndarray(shape, nl.uint8, address=at) for shape, at, _ in tiles]
    order = list(range(len(tiles)))
    random.shuffle(order)
    for i in order:
        (rows, columns), (partition, byte), value = tiles[i]
        nisa.memset(made[i], value)
        memory[partition : partition + rows, byte : byte + columns] = value
    assert active.contents(base).tolist() == memory.tolist()
    for tile, ((rows, columns), (partition, byte), _) in zip(made, tiles, strict=True):
        window = memory[partition : partition + rows, byte : byte + columns]
        assert active.contents(tile).tolist() == window.tolist()


def test_a_tensor_declared_again_keeps_what_its_bytes_hold(active):
    # nki_api §5: do not poison explicit addresses after their first use.
    nisa.memset(nl.ndarray((4, 8), nl.float32, address=(0, 64)), 1.0)
    again = nl.ndarray((4, 8), nl.uint32, address=(0, 64))
    assert active.contents(again).tolist() == [[0x3F800000] * 8] * 4


def test_bytes_that_nothing_wrote_stay_unreadable_beside_those_that_are(active):
    nisa.memset(nl.ndarray((4, 2), nl.float32, address=(0, 0)), 1.0)
    wide = nl.ndarray((4, 3), nl.float32, address=(0, 0))
    with pytest.raises(UninitializedReadError, match="byte 8"):
        nisa.tensor_copy(nl.ndarray((4, 3), nl.float32), wide)


def test_a_matmul_accumulates_in_a_bank_that_another_name_filled(active, in_sbuf):
    ones = in_sbuf(np.ones((4, 4), np.float32))
    first = nl.ndarray((4, 4), nl.float32, nl.psum, address=(0, 2048))
    nisa.nc_matmul(first, ones, ones)
    nisa.nc_matmul(first, ones, ones)
    second = nl.ndarray((4, 4), nl.float32, nl.psum, address=(0, 2048))
    assert active.contents(second).tolist() == [[8.0] * 4] * 4
    nisa.nc_matmul(second, ones, ones)  # its first: it overwrites
    assert active.contents(first).tolist() == [[4.0] * 4] * 4


@pytest.mark.parametrize("buffer", [nl.private_hbm, nl.shared_hbm])
def test_tensors_in_hbm_take_a_byte(active, buffer):
    whole = nl.full((4, 4), 5.0, nl.float32, buffer)
    low = nl.ndarray((4, 4), nl.float32, buffer, address=(4096,))
    nisa.dma_copy(low, whole)
    high = nl.ndarray((2, 4), nl.float32, buffer, address=(4096 + 32,))
    assert active.contents(high).tolist() == [[5.0] * 4] * 2


@pytest.mark.parametrize(
    ("error", "buffer", "address", "message"),
    [
        (UsageError, nl.sbuf, (3,), r"must be \(partition, byte in the partition\)"),
        (UsageError, nl.sbuf, (0, -4), "not negative"),
        (UsageError, nl.sbuf, 7, "must be"),
        (UsageError, nl.private_hbm, (0, 4), r"must be \(byte,\)"),
        (UsageError, nl.sbuf, (0, 2), "no multiple of the 4 bytes of a float32"),
        (CapacityError, nl.sbuf, (126, 0), "partition 130"),
        (CapacityError, nl.sbuf, (0, 1 << 20), "bytes on NeuronCore-v3"),
        (CapacityError, nl.psum, (0, 16384), "16384 bytes"),
        (HardwareLimitError, nl.psum, (0, 1024), "start of a bank, a multiple of 2048"),
    ],
)
def test_impossible_addresses_are_refused(active, error, buffer, address, message):
    with pytest.raises(error, match=message):
        nl.ndarray((4, 4), nl.float32, buffer, address=address)


@pytest.mark.parametrize("buffer", [None, ...])
def test_a_tensor_without_a_memory_lies_in_sbuf(active, buffer):
    # 0.2: buffer=None; 0.7: the default is a sentinel.
    assert nl.ndarray((2, 2), nl.float32, buffer).buffer is nl.sbuf


def test_strings_name_memories_as_in_0_2(active):
    for text, region in (("hbm", nl.private_hbm), ("psum", nl.psum)):
        active.told.clear()
        with pytest.warns(DeprecationWarning, match="memory given as a string"):
            assert nl.ndarray((2, 2), nl.float32, text).buffer is region


def test_the_shape_is_ints(active):
    with pytest.raises(UsageError, match="tuple of ints"):
        nl.ndarray((2, 2.5), nl.float32)


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum, nl.private_hbm, nl.shared_hbm])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 7), (128, 4)])
def test_fillings_in_every_memory(active, buffer, shape):
    for make, value in ((nl.zeros, 0), (nl.ones, 1)):
        assert (active.contents(make(shape, nl.float32, buffer)) == value).all()
    assert (active.contents(nl.full(shape, -2.5, nl.bfloat16, buffer)) == -2.5).all()
    like = nl.zeros_like(nl.ones(shape, nl.int32, buffer), dtype=nl.float32)
    assert (like.shape, like.dtype, like.buffer) == (shape, "float32", buffer)


@pytest.mark.parametrize("shape", [(1, 300_000), (7, 33_333), (300, 900), (200_001,)])
def test_large_fillings_in_hbm_need_no_large_tile(active, shape):
    made = nl.full(shape, 3, nl.int32, nl.shared_hbm)
    assert (active.contents(made) == 3).all()


def test_a_constant_comes_from_an_array_or_a_file(active, tmp_path):
    values = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.save(tmp_path / "values.npy", values)
    for constant in (values, str(tmp_path / "values.npy")):
        made = nl.shared_constant(constant)
        assert (made.buffer, made.dtype) == (nl.shared_hbm, "int32")
        assert active.contents(made).tolist() == values.tolist()
    with pytest.warns(DeprecationWarning, match=r"dtype= of nl\.shared_constant"):
        assert nl.shared_constant(values, nl.float32).dtype == "float32"


def test_the_identity_fills_a_new_or_a_given_tile(active):
    assert active.contents(nl.shared_identity_matrix(5)).tolist() == np.eye(5).tolist()
    given = nl.zeros((4, 4), nl.bfloat16)
    nl.shared_identity_matrix(4, dst=given)
    assert active.contents(given).astype(int).tolist() == np.eye(4).tolist()


def test_outputs_in_private_hbm_are_of_0_2():
    def kernel(a):
        made = nl.ndarray(a.shape, a.dtype, buffer=nl.hbm)
        nisa.dma_copy(made, a)
        return made

    values = np.ones((2, 3), np.float32)
    with pytest.warns(DeprecationWarning, match="output in private HBM"):
        assert nki.simulate(kernel)(values).tolist() == values.tolist()
