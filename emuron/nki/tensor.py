"""NkiTensor: the view that kernels hold, index, reshape and hand to instructions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from emuron.errors import OutOfBoundsError, UsageError
from emuron.isa.affine import Affine, Index
from emuron.isa.tensor import AccessPattern, Indirection
from emuron.numerics.dtypes import dtype as to_dtype


@dataclass(frozen=True, slots=True)
class DynamicSlice:
    """The slice [start, start + size) whose start may depend on a loop; made by `nl.ds`."""

    start: Index
    size: int


Key = Any  # int | Affine | slice | DynamicSlice | Ellipsis | tuple of these


class NkiTensor(AccessPattern):
    """A strided view of an allocation with the methods of `nki.language.NkiTensor`.

    Indexing gives views. In HBM an int drops its dimension. On chip an int on dimension 0 keeps it
    with size 1, and an int on a free dimension drops it unless fewer than two dimensions would
    remain, in which case the last one stays with size 1.
    """

    __slots__ = ()

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def name(self) -> str:
        """The allocation's name."""
        return self.tensor.name

    def _like(
        self, shape: tuple[int, ...], strides: tuple[int, ...], offset: Index, dtype: Any = None
    ) -> NkiTensor:
        return NkiTensor(self.tensor, shape, strides, offset, dtype or self.dtype, self.indirection)

    def __getitem__(self, key: Key) -> NkiTensor:
        keys = key if isinstance(key, tuple) else (key,)
        shape, strides = self.shape, self.strides
        if len(keys) < len(shape) or Ellipsis in keys:
            keys = _complete(keys, len(shape))
        if len(keys) > len(shape):
            raise UsageError(
                f"{self.tensor.name} has {len(shape)} dimensions, not the {len(keys)} indexed."
            )
        offset = self.offset
        kept: list[tuple[int, int]] = []
        on_chip = self.buffer.is_on_chip
        for axis, item in enumerate(keys):
            size, stride = shape[axis], strides[axis]
            start, count, step, drops = _resolve(item, size, axis, self)
            offset = offset + start * stride
            if not drops or (on_chip and axis == 0):
                kept.append((count, stride * step))
        if len(kept) < (2 if on_chip and len(shape) > 1 else 1):
            kept.append((1, 1))
        return self._like(tuple(c for c, _ in kept), tuple(s for _, s in kept), offset)

    def __bool__(self) -> bool:
        raise UsageError(
            f"The truth value of tensor {self.tensor.name} is not known while a kernel is written. "
            "Compare shapes or Python values, or select with nki.isa instructions."
        )

    def reshape(self, shape: tuple[int, ...]) -> NkiTensor:
        """Return a view of the same elements in row-major order; on chip shape[0] must stay."""
        shape = tuple(shape)
        if prod(shape) != self.size:
            raise UsageError(
                f"Cannot reshape {self.tensor.name} of shape {list(self.shape)} "
                f"({self.size} elements) to {list(shape)} ({prod(shape)} elements)."
            )
        if self.buffer.is_on_chip and shape[0] != self.shape[0]:
            raise UsageError(
                f"Reshaping {self.tensor.name} on chip may not change dimension 0 (partitions) "
                f"from {self.shape[0]} to {shape[0]}. Copy the data instead."
            )
        return self._like(shape, _reshaped_strides(self, shape), self.offset)

    def permute(self, dims: tuple[int, ...]) -> NkiTensor:
        """Return a view with permuted dimensions; on chip dims[0] must be 0."""
        if self.buffer.is_on_chip and dims[0] != 0:
            raise UsageError("On chip, dimension 0 (partitions) must stay first in permute.")
        return self._like(
            tuple(self.shape[d] for d in dims), tuple(self.strides[d] for d in dims), self.offset
        )

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """Return a view that repeats a dimension of size 1 (stride 0)."""
        if self.shape[dim] != 1:
            raise UsageError(
                f"broadcast needs dimension {dim} of {self.tensor.name} to have size 1; it has "
                f"{self.shape[dim]}."
            )
        shape = (*self.shape[:dim], size, *self.shape[dim + 1 :])
        strides = (*self.strides[:dim], 0, *self.strides[dim + 1 :])
        return self._like(shape, strides, self.offset)

    def expand_dim(self, dim: int) -> NkiTensor:
        """Return a view with a dimension of size 1 inserted before `dim`."""
        return self._like(
            (*self.shape[:dim], 1, *self.shape[dim:]),
            (*self.strides[:dim], 0, *self.strides[dim:]),
            self.offset,
        )

    def squeeze_dim(self, dim: int) -> NkiTensor:
        """Return a view without dimension `dim`, which must have size 1."""
        if self.shape[dim] != 1:
            raise UsageError(f"squeeze_dim: dimension {dim} has size {self.shape[dim]}, not 1.")
        return self._like(
            self.shape[:dim] + self.shape[dim + 1 :],
            self.strides[:dim] + self.strides[dim + 1 :],
            self.offset,
        )

    def view(self, dtype: object) -> NkiTensor:
        """Return the same bytes as another dtype; the last dimension scales by the size ratio."""
        new = to_dtype(dtype)
        old_size, new_size = self.dtype.itemsize, new.itemsize
        last = self.shape[-1] * old_size
        if last % new_size or self.strides[-1] != 1 or isinstance(self.offset, Affine):
            raise UsageError(
                f"Cannot view {self!r} as {new}: the last dimension must be contiguous and its "
                f"{last} bytes a multiple of {new_size}."
            )
        strides = tuple(s * old_size // new_size for s in self.strides[:-1])
        offset = self.offset * old_size // new_size
        return self._like((*self.shape[:-1], last // new_size), (*strides, 1), offset, new)

    def ap(
        self,
        pattern: list[Any],
        offset: Index | None = None,
        scalar_offset: NkiTensor | None = None,
        vector_offset: NkiTensor | None = None,
        indirect_dim: int = 0,
        dtype: object | None = None,
    ) -> NkiTensor:
        """Return a raw access pattern [[step, count], …] over the flattened storage, slowest first.

        Units are elements of `dtype` (default: the tensor's). `offset` None keeps the view's own
        offset, an integer is absolute. `scalar_offset` or `vector_offset` add run-time addressing
        along `indirect_dim` of this view's shape.
        """
        new = self.dtype if dtype is None else to_dtype(dtype)
        shape = tuple(int(count) for _, count in pattern)
        strides = tuple(int(step) for step, _ in pattern)
        start = self.offset if offset is None else offset
        made = NkiTensor(self.tensor, shape, strides, start, new)
        index = scalar_offset if vector_offset is None else vector_offset
        if index is not None:
            stride = prod(self.shape[indirect_dim + 1 :])
            kind = "scalar" if vector_offset is None else "vector"
            made.indirection = Indirection(kind, index, stride, self.shape[indirect_dim])
        return made


def _complete(keys: tuple[Key, ...], ndim: int) -> tuple[Key, ...]:
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        fill = ndim - (len(keys) - 1)
        return (*keys[:at], *[slice(None)] * fill, *keys[at + 1 :])
    return (*keys, *[slice(None)] * (ndim - len(keys)))


def _resolve(item: Key, size: int, axis: int, owner: NkiTensor) -> tuple[Index, int, int, bool]:
    """Return (start, count, step, drops the dimension) of one index."""
    if isinstance(item, slice):
        start: Index = 0 if item.start is None else item.start
        stop: Index = size if item.stop is None else item.stop
        step = 1 if item.step is None else int(item.step)
        length = stop - start
        if isinstance(length, Affine):
            if length.terms:
                raise UsageError(f"The length of slice {item} depends on a loop; use nl.ds.")
            length = length.base
        if isinstance(start, int) and isinstance(stop, int):
            _within(start, stop, size, axis, owner)
        return start, -(-int(length) // step), step, False
    if isinstance(item, DynamicSlice):
        if isinstance(item.start, int):
            _within(item.start, item.start + item.size, size, axis, owner)
        return item.start, item.size, 1, False
    if isinstance(item, Affine):
        return item, 1, 1, True
    position = int(item)
    if position < 0:
        position += size
    _within(position, position + 1, size, axis, owner)
    return position, 1, 1, True


def _within(start: int, stop: int, size: int, axis: int, owner: NkiTensor) -> None:
    if not 0 <= start < stop <= size:
        raise OutOfBoundsError(
            f"Index [{start}:{stop}] is outside dimension {axis} of {owner.tensor.name} "
            f"(shape {list(owner.shape)}, size {size} there). Clamp the slice, say with min()."
        )


def _reshaped_strides(view: NkiTensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return strides that give the same row-major order, or refuse."""
    old = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
    merged: list[tuple[int, int]] = []
    for count, stride in old:
        if merged and merged[-1][1] == stride * count:
            merged[-1] = (merged[-1][0] * count, stride)
        else:
            merged.append((count, stride))
    strides: list[int] = []
    for count in reversed(shape):
        if count == 1:
            strides.append(1)
            continue
        run, stride = merged[-1] if merged else (1, 1)
        if run % count:
            raise UsageError(
                f"Cannot reshape {view!r} to {list(shape)} without moving data. Copy it first."
            )
        strides.append(stride)
        merged.pop()
        if run != count:
            merged.append((run // count, stride * count))
    return tuple(reversed(strides))
