from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import UninitializedReadError, UsageError
from emuron.hardware import catalog
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.numerics.dtypes import dtype
from emuron.sim.machine import Machine


@pytest.fixture
def machine():
    return Machine(catalog.chip("trn2").core)


def _tensor(shape, kind="float32", where="sbuf", **more):
    return Tensor("t", shape, dtype(kind), MemoryRegion(where), **more)


def _placed(name, shape, kind, partition, byte):
    address = (partition, byte)
    return Tensor(name, shape, dtype(kind), MemoryRegion.sbuf, address=address, aliases=True)


def test_what_was_written_is_read(machine):
    t = _tensor((4, 3), "bfloat16")
    values = np.arange(12).reshape(4, 3).astype(t.dtype.np)
    machine.write(t, values)
    np.testing.assert_array_equal(machine.read(t), values)


def test_reading_what_nothing_wrote_names_the_tensor_and_the_place(machine):
    match = r"'t' \[4, 3\] float32 in sbuf was never written at partition 0, byte 0"
    with pytest.raises(UninitializedReadError, match=match):
        machine.read(_tensor((4, 3)))


def test_a_bound_array_is_not_copied_and_not_written_to(machine):
    t = _tensor((4, 3), where="private_hbm")
    values = np.ones((4, 3), np.float32)
    values.flags.writeable = False
    machine.bind(t, values)
    assert np.shares_memory(machine.storage(t).memory.buffer, values)
    machine.write(t, values * 2)
    assert (values == 1).all()
    assert (machine.read(t) == 2).all()


def test_a_memory_mapped_file_can_be_bound(machine, tmp_path):
    np.arange(6, dtype=np.float32).tofile(tmp_path / "weights")
    mapped = np.memmap(tmp_path / "weights", np.float32, "r", shape=(2, 3))
    t = _tensor((2, 3), where="private_hbm")
    machine.bind(t, mapped)
    np.testing.assert_array_equal(machine.read(t), [[0, 1, 2], [3, 4, 5]])


def test_an_array_of_another_shape_is_refused(machine):
    with pytest.raises(UsageError, match=r"is \[4, 3\] float32, the array is \[3, 3\] float64"):
        machine.write(_tensor((4, 3)), np.zeros((3, 3)))
    with pytest.raises(UsageError, match="give it that shape and dtype"):
        machine.bind(_tensor((4, 3)), np.zeros((4, 3)))


def test_tensors_on_the_same_bytes_share_them(machine):
    whole = _placed("whole", (4, 8), "uint8", 0, 16)
    words = _placed("words", (4, 2), "uint32", 0, 16)
    machine.write(whole, np.arange(32, dtype=np.uint8).reshape(4, 8))
    expected = np.arange(32, dtype=np.uint8).view(np.uint32).reshape(4, 2)
    np.testing.assert_array_equal(machine.read(words), expected)


def test_tensors_may_overlap_in_part(machine):
    a = _placed("a", (4, 8), "uint8", 0, 0)
    b = _placed("b", (4, 8), "uint8", 2, 4)  # partitions 2 to 5, bytes 4 to 11
    machine.write(a, np.full((4, 8), 1, np.uint8))
    machine.write(b, np.full((4, 8), 2, np.uint8))
    expected = np.ones((4, 8))
    expected[2:, 4:] = 2
    np.testing.assert_array_equal(machine.read(a), expected)


def test_a_third_tensor_joins_two_that_did_not_overlap(machine):
    a, b = _placed("a", (2, 4), "uint8", 0, 0), _placed("b", (2, 4), "uint8", 0, 8)
    machine.write(a, np.full((2, 4), 1, np.uint8))
    machine.write(b, np.full((2, 4), 2, np.uint8))
    both = _placed("both", (2, 6), "uint8", 0, 3)
    machine.storage(both)
    with pytest.raises(UninitializedReadError, match="partition 0, byte 1"):
        machine.read(both)
    machine.write(both, np.full((2, 6), 3, np.uint8))
    np.testing.assert_array_equal(machine.read(a), [[1, 1, 1, 3]] * 2)
    np.testing.assert_array_equal(machine.read(b), [[3, 2, 2, 2]] * 2)


def test_neighbours_do_not_share(machine):
    a, b = _placed("a", (2, 4), "uint8", 0, 0), _placed("b", (2, 4), "uint8", 0, 4)
    machine.write(a, np.full((2, 4), 1, np.uint8))
    machine.write(b, np.full((2, 4), 2, np.uint8))
    assert (machine.read(a) == 1).all()
    assert (machine.read(b) == 2).all()


def test_placed_tensors_in_hbm_share_bytes_too(machine):
    low, high, both = (
        Tensor(n, (size,), dtype("uint8"), MemoryRegion.private_hbm, address=at, aliases=True)
        for n, size, at in (("low", 8, 0), ("high", 100, 4), ("both", 8, 2))
    )
    machine.write(low, np.full(8, 1, np.uint8))
    machine.write(high, np.full(100, 2, np.uint8))
    assert machine.read(low).tolist() == [1] * 4 + [2] * 4
    machine.write(both, np.full(8, 3, np.uint8))
    assert machine.read(high)[:8].tolist() == [3] * 6 + [2] * 2


def test_a_tensor_declared_again_at_its_address_keeps_what_it_held(machine):
    machine.write(_placed("a", (2, 4), "uint8", 0, 8), np.full((2, 4), 7, np.uint8))
    again = _placed("again", (2, 1), "uint32", 0, 8)
    assert machine.read(again).tolist() == [[0x07070707]] * 2


def test_addresses_of_an_allocator_do_not_alias(machine):
    a = _tensor((2, 4), address=(0, 0))
    b = _tensor((2, 4), address=(0, 0))
    machine.write(a, np.ones((2, 4), np.float32))
    with pytest.raises(UninitializedReadError):
        machine.read(b)


def test_a_released_tensor_is_unwritten_again(machine):
    t = _tensor((2, 4))
    machine.write(t, np.ones((2, 4), np.float32))
    machine.release(t)
    with pytest.raises(UninitializedReadError):
        machine.read(t)


def test_machines_do_not_share_contents(machine):
    other, t = Machine(machine.core), _tensor((2, 4))
    machine.write(t, np.ones((2, 4), np.float32))
    with pytest.raises(UninitializedReadError):
        other.read(t)
