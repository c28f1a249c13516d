"""Making, loading, storing and moving tiles: the functions of `nki.language` that allocate."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from emuron.errors import UsageError
from emuron.isa.affine import Affine, Index
from emuron.isa.tensor import AccessPattern, MemoryRegion
from emuron.nki import isa
from emuron.nki.allocation import checked_address
from emuron.nki.earlier_forms import form_of, use
from emuron.nki.indexing import DynamicSlice
from emuron.nki.recorder import recorder
from emuron.nki.tensor import NkiTensor, tile_like
from emuron.numerics.dtypes import DType, float32, uint8
from emuron.numerics.dtypes import dtype as to_dtype

nisa: Any = isa  # its functions are made from the instruction classes

Buffer = MemoryRegion | str | EllipsisType | None


def region(buffer: Any) -> MemoryRegion:
    """Return the memory meant by `buffer`: None and `...` are SBUF, strings are of NKI 0.2."""
    if isinstance(buffer, MemoryRegion):
        return buffer
    if buffer is None or buffer is Ellipsis:
        return MemoryRegion.sbuf
    use("string buffer")
    name = "private_hbm" if buffer == "hbm" else str(buffer)
    if name not in list(MemoryRegion):
        raise UsageError(f"buffer={buffer!r} is no memory; use nl.sbuf, nl.psum, nl.shared_hbm.")
    return MemoryRegion(name)


class _TensorType(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, NkiTensor)


class ndarray(metaclass=_TensorType):
    """A new uninitialised tensor; also the type of tensors in annotations.

    On chip, dimension 0 runs over partitions and `address` is (partition, byte in the partition);
    in HBM it is (byte,). Tensors on the same bytes share their contents. Without an address the
    tensor is placed after recording, on bytes of its own.
    """

    def __new__(  # type: ignore[misc]
        cls,
        shape: Sequence[int],
        dtype: object,
        buffer: Buffer = MemoryRegion.sbuf,
        name: str = "",
        address: Sequence[int] | None = None,
    ) -> NkiTensor:
        """Return a new tensor of `shape` in `buffer`."""
        return allocate(shape, dtype, buffer, name, address)


class TensorClass(metaclass=_TensorType):
    """`nki.language.NkiTensor`: the class of tensors, which makes a view of a storage when called.

    `storage` is a tensor whose bytes the new one shows, or None for a new allocation.
    """

    def __new__(  # type: ignore[misc]
        cls,
        shape: Sequence[int],
        dtype: object,
        storage: NkiTensor | None,
        buffer: Buffer = MemoryRegion.sbuf,
        name: str = "",
    ) -> NkiTensor:
        """Return a tensor of `shape` over a storage of as many bytes in row-major order."""
        if storage is None:
            return allocate(shape, dtype, buffer, name)
        return storage.view(dtype).reshape(shape)


def allocate(
    shape: Sequence[int],
    dtype: object,
    buffer: Buffer = MemoryRegion.sbuf,
    name: str = "",
    address: Sequence[int] | None = None,
) -> NkiTensor:
    """Return a new uninitialised tensor, with NumPy's ints and lists taken for ints and tuples."""
    try:
        counts = tuple(map(operator.index, shape))
    except TypeError:
        raise UsageError(f"The shape {shape!r} of a tensor must be a tuple of ints.") from None
    active = recorder()
    key = (counts, dtype, buffer)
    if address is None and buffer.__class__ is MemoryRegion:
        try:
            like = active.tiles[key]
        except (KeyError, TypeError):  # the first one, or no dtype
            pass
        else:
            return tile_like(like, active.another(like.tensor, name), active.executor)
    kind, memory = to_dtype(dtype), region(buffer)
    placed = None
    if address is not None:
        if not memory.is_on_chip:
            use("hbm address")
        placed = checked_address(active.core, name or "ndarray", counts, kind, memory, address)
    tensor = active.tensor(counts, kind, memory, name=name, address=placed)
    made = NkiTensor(tensor, lease=active.lease(tensor))
    if address is None and memory.is_on_chip:
        active.tiles[key] = made.plain()
    return made


def ds(start: Index | AccessPattern, size: int) -> Any:
    """Return the slice [start, start + size); a tile or register as start is read at run time."""
    if isinstance(start, AccessPattern | Affine):
        return DynamicSlice(start, operator.index(size))
    first = operator.index(start)
    return slice(first, first + operator.index(size))


def full(
    shape: Sequence[int],
    fill_value: float,
    dtype: object,
    buffer: Buffer = MemoryRegion.sbuf,
    name: str = "",
) -> NkiTensor:
    """Return a new tensor filled with one number; in HBM by way of a tile in SBUF."""
    made = allocate(shape, dtype, buffer, name)
    if made.buffer.is_on_chip:
        nisa.memset(made, fill_value)
        return made
    core, size, flat = recorder().core, made.size, made.reshape((made.size,))
    columns = min(size, core.dma.recommended_bytes_per_partition // made.dtype.itemsize)
    rows = min(core.partitions, size // columns)
    tile = allocate((rows, columns), dtype)
    nisa.memset(tile, fill_value)
    start = 0
    while start < size:
        height = min(rows, (size - start) // columns) or 1
        width = min(columns, size - start)
        piece = flat[start : start + height * width].reshape((height, width))
        nisa.dma_copy(dst=piece, src=tile[0:height, 0:width])
        start += height * width
    return made


def zeros(
    shape: Sequence[int],
    dtype: object,
    buffer: Buffer = MemoryRegion.sbuf,
    name: str = "",
) -> NkiTensor:
    """Return a new tensor of zeros."""
    return full(shape, 0, dtype, buffer, name)


def ones(
    shape: Sequence[int],
    dtype: object,
    buffer: Buffer = MemoryRegion.sbuf,
    name: str = "",
) -> NkiTensor:
    """Return a new tensor of ones."""
    return full(shape, 1, dtype, buffer, name)


def empty_like(
    x: NkiTensor, dtype: object = None, buffer: Buffer = None, name: str = ""
) -> NkiTensor:
    """Return a new uninitialised tensor of the shape (and dtype and memory) of `x`."""
    return allocate(x.shape, dtype or x.dtype, buffer or x.buffer, name)


def zeros_like(
    x: NkiTensor, dtype: object = None, buffer: Buffer = None, name: str = ""
) -> NkiTensor:
    """Return a new tensor of zeros of the shape (and dtype and memory) of `x`."""
    return zeros(x.shape, dtype or x.dtype, buffer or x.buffer, name)


def shared_constant(constant: Any, dtype: object = None) -> NkiTensor:
    """Return a tensor in shared_hbm with the contents of an array or an `.npy` file."""
    if dtype is not None:
        use("shared_constant dtype")
    array = np.load(constant) if isinstance(constant, str | os.PathLike) else np.asarray(constant)
    return _constant(array, to_dtype(dtype if dtype is not None else array.dtype))


def _constant(array: Any, kind: DType) -> NkiTensor:
    active = recorder()
    made = active.tensor(array.shape, kind, MemoryRegion.shared_hbm, role="parameter")
    active.constant(made, np.ascontiguousarray(array.astype(kind.np)))
    return NkiTensor(made)


def shared_identity_matrix(n: int, dtype: object = uint8, dst: NkiTensor | None = None) -> Any:
    """Return the n × n identity in SBUF; with `dst`, fill that tile."""
    made = allocate((n, n), dtype) if dst is None else dst
    nisa.dma_copy(dst=made, src=_constant(np.eye(n, dtype=np.float32), made.dtype))
    return made


@form_of("maths")
def load(src: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return a new tile in SBUF with a copy of a view of HBM (at most 128 rows)."""
    made = allocate(src.shape if src.ndim > 1 else (1, *src.shape), dtype or src.dtype)
    nisa.dma_copy(dst=made, src=src)
    return made


@form_of("maths")
def store(dst: NkiTensor, value: NkiTensor) -> None:
    """Copy a tile in SBUF to a view of HBM."""
    if value.buffer is MemoryRegion.psum:
        raise UsageError(
            f"nl.store: {value.name} lies in PSUM, which DMA does not read. Copy it to SBUF first, "
            "say with nl.copy or nisa.tensor_copy."
        )
    nisa.dma_copy(dst=dst, src=value)


@form_of("maths")
def copy(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return a copy of a tile in SBUF."""
    made = allocate(x.shape, dtype or x.dtype)
    nisa.tensor_copy(made, x)
    return made


@form_of("maths")
def transpose(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the transpose of a [P, F] tile in SBUF, in PSUM."""
    made = allocate((x.free_size, x.shape[0]), dtype or x.dtype, MemoryRegion.psum)
    nisa.nc_transpose(made, x)
    return made


@form_of("maths")
def load_transpose2d(src: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the transpose of a 2-D view of HBM, in SBUF."""
    return copy(transpose(load(src, dtype)))


@form_of("maths")
def matmul(x: NkiTensor, y: NkiTensor, transpose_x: bool = False) -> NkiTensor:
    """Return x @ y (x.T @ y with `transpose_x`, which needs no transposition) in PSUM."""
    stationary = x if transpose_x else copy(transpose(x))
    shape = (stationary.free_size, y.free_size)
    made = allocate(shape, "float32", MemoryRegion.psum)
    nisa.nc_matmul(made, stationary, y)
    return made


@form_of("maths")
def expand_dims(x: NkiTensor, axis: int) -> NkiTensor:
    """Return a view with a dimension of size 1 inserted before `axis`."""
    return x.expand_dim(axis)


@form_of("maths")
def broadcast_to(x: NkiTensor, shape: Sequence[int], dtype: object = None) -> NkiTensor:
    """Return `x` with dimensions of size 1 repeated: a view, or a copy if `dtype` differs.

    One partition is repeated over others by the Tensor Engine, into a new tile.
    """
    if len(shape) != x.ndim:
        raise UsageError(f"broadcast_to: {x.name} has {x.ndim} dimensions, not {len(shape)}.")
    if x.shape[0] == 1 and shape[0] != 1 and x.buffer.is_on_chip:
        x = _over_partitions(x, shape[0])
    for axis, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
        if have != want:
            x = x.broadcast(axis, want)
    return x if dtype is None or to_dtype(dtype) == x.dtype else copy(x, dtype)


def _over_partitions(x: NkiTensor, count: int) -> NkiTensor:
    """Return a tile with the only partition of `x` in each of `count` partitions.

    A column of ones times the row, bank by bank, as NKI does it (architecture guide of Trainium,
    data movement by the Tensor Engine). A result in float32 that fits in a bank stays in PSUM,
    where the Vector Engine reads a second operand at no cost; others leave it on the Scalar
    Engine. The fused Mamba tutorial measures such a Vector Engine, busy with the kernel's own work.
    """
    row = (x if x.buffer is MemoryRegion.sbuf else copy(x)).reshape((1, x.free_size))
    ones = allocate((1, count), x.dtype)
    nisa.memset(ones, 1.0, engine=isa.engine.gpsimd)
    bank = recorder().core.psum_bank_bytes // float32.itemsize
    if x.dtype == float32 and x.free_size <= bank:
        product = allocate((count, x.free_size), float32, MemoryRegion.psum)
        nisa.nc_matmul(product, ones, row, is_stationary_onezero=True)
        return product.reshape((count, *x.shape[1:]))
    made = allocate((count, x.free_size), x.dtype)
    for start in range(0, x.free_size, bank):
        part = slice(start, min(start + bank, x.free_size))
        product = allocate((count, part.stop - start), float32, MemoryRegion.psum)
        nisa.nc_matmul(product, ones, row[:, part], is_stationary_onezero=True)
        nisa.activation(made[:, part], copy, product)
    return made.reshape((count, *x.shape[1:]))


@form_of("maths")
def gather_flattened(
    data: NkiTensor, indices: NkiTensor, axis: int = 0, dtype: object = None
) -> NkiTensor:
    """Return `data[p, indices[p, i]]` in each partition, free dimensions flattened."""
    made = allocate(indices.shape, data.dtype)
    nisa.nc_n_gather(made, data, indices)
    return made if dtype is None else copy(made, dtype)


def device_print(print_prefix: str, tensor: NkiTensor) -> None:
    """Print a tensor's contents, if the kernel runs with data."""
    contents = recorder().contents(tensor)
    if contents is not None:
        sys.stdout.write(f"{print_prefix} {contents}\n")


def dtype_of(x: Any) -> DType | None:
    """Return the dtype of a tile, None for a number."""
    return x.dtype if isinstance(x, AccessPattern) else None
