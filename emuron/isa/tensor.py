"""Tensors (allocations) and access patterns (the strided views that instructions name)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any, Self

from emuron.isa.affine import Affine, Index, base_of, last_of
from emuron.numerics.dtypes import DType


class MemoryRegion(enum.StrEnum):
    """The memories a tensor can live in; members equal their name string, as in `nki.language`."""

    sbuf = "sbuf"
    psum = "psum"
    private_hbm = "private_hbm"
    shared_hbm = "shared_hbm"
    register = "register"  # the 32-bit registers of the engines' sequencers, each a tensor of one

    @property
    def is_on_chip(self) -> bool:
        """Whether dimension 0 is the partition dimension."""
        return self is MemoryRegion.sbuf or self is MemoryRegion.psum


@dataclass(frozen=True, slots=True, eq=False)
class StorageKind:
    """What layouts take from a tensor: one shared object for equal values, compared by identity."""

    buffer: MemoryRegion
    dtype: DType
    row_elements: int
    in_psum: bool


storage_kind = cache(StorageKind)


@cache
def _kind_of(buffer: MemoryRegion, dtype: DType, shape: tuple[int, ...]) -> StorageKind:
    row = prod(shape[1:]) if buffer.is_on_chip else 0
    return storage_kind(buffer, dtype, row, buffer is MemoryRegion.psum)


_new = object.__new__


@dataclass(slots=True, eq=False)
class Tensor:
    """One allocation: a shape and dtype in one memory; compares by identity.

    On chip, dimension 0 of `shape` is the partition dimension and `address` is
    (partition, byte in the partition); in HBM `address` is a byte. `address` is None until an
    allocator or the user places the tensor. `aliases` is True when the user placed it with
    `address=`, so that tensors on the same bytes share their contents. `rivals` names the tensors
    to which an allocator gave some of the same bytes at other times of the program: a write here
    must come after their earlier accesses.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    buffer: MemoryRegion
    address: tuple[int, int] | int | None = None
    aliases: bool = False
    role: str = "temporary"  # input | output | parameter | temporary
    rivals: tuple[Tensor, ...] = ()
    partition_elements: int = field(init=False)
    kind: StorageKind = field(init=False)

    def __post_init__(self) -> None:
        self.kind = _kind_of(self.buffer, self.dtype, self.shape)
        self.partition_elements = self.kind.row_elements

    def another(self, name: str) -> Tensor:
        """Return a new temporary of the same shape, dtype and memory, not placed."""
        made = _new(Tensor)  # kernels allocate as often as they compute
        made.name = name
        made.shape = self.shape
        made.dtype = self.dtype
        made.buffer = self.buffer
        made.address = None
        made.aliases = False
        made.role = "temporary"
        made.rivals = ()
        made.partition_elements = self.partition_elements
        made.kind = self.kind
        return made

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in all partitions together."""
        return self.size * self.dtype.itemsize

    @property
    def partition_bytes(self) -> int:
        """Bytes in each partition (on chip only)."""
        return self.partition_elements * self.dtype.itemsize


@cache
def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the element strides of a dense row-major array."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


@dataclass(frozen=True, slots=True, eq=False)
class Indirection:
    """Run-time addressing of one dimension by values that lie in another access pattern.

    `kind` is "scalar" (one value shifts the whole pattern), "vector" (row i starts at index[i]) or
    "gather" (each element of a partition at an offset of its own, see `gathered`);
    `stride` counts elements of the view per unit of the index, `limit` is the number of legal
    indices (what happens beyond is the instruction's `oob_mode`).
    """

    kind: str
    index: AccessPattern
    stride: int
    limit: int


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A view but for its tensor and offset; equal ones are one object, compared by identity.

    `place` is the start partition in SBUF, the offset (and the address, if given) in PSUM, where
    banks matter, and None in HBM; `indirect` is the rule of run-time addressing.
    """

    kind: StorageKind
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    place: object
    indirect: tuple[object, ...] | None


_layout = cache(Layout)


class AccessPattern:
    """A strided view of a Tensor: element (i, …) is base element `offset + Σ stride·i`.

    `shape`, `strides` and `offset` count elements of the view's `dtype`. On chip, dimension 0 runs
    over partitions with a stride of the elements per partition, so that `offset` divides into
    (start partition, free offset). `offset` may be Affine inside a loop of the compiler. `layout`
    is all that an instruction's limits and cost may depend on: equal layouts mean equal checks,
    equal cost and equal code in the simulator.
    """

    __slots__ = ("tensor", "shape", "strides", "offset", "dtype", "indirection", "layout")

    tensor: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: Index
    dtype: DType
    indirection: Indirection | None
    layout: Layout

    def __init__(
        self,
        tensor: Tensor,
        shape: tuple[int, ...] | None = None,
        strides: tuple[int, ...] | None = None,
        offset: Index = 0,
        dtype: DType | None = None,
        indirection: Indirection | None = None,
    ) -> None:
        self.tensor = tensor
        self.shape = tensor.shape if shape is None else shape
        self.strides = row_major(self.shape) if strides is None else strides
        self.offset = offset
        self.dtype = tensor.dtype if dtype is None else dtype
        self.indirection = indirection

    @property
    def buffer(self) -> MemoryRegion:
        """The memory that holds the tensor."""
        return self.tensor.buffer

    @property
    def partitions(self) -> int:
        """Number of partitions touched (on chip)."""
        return self.shape[0]

    @property
    def free_size(self) -> int:
        """Elements per partition (on chip)."""
        return prod(self.shape[1:])

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def row_elements(self) -> int:
        """Elements per partition of the storage, counted in the view's dtype (on chip)."""
        tensor = self.tensor
        return tensor.partition_elements * tensor.dtype.itemsize // self.dtype.itemsize

    @property
    def start_partition(self) -> int:
        """First partition touched, counted from the machine's partition 0."""
        own = base_of(self.offset) // max(1, self.row_elements)
        address = self.tensor.address
        return own + (address[0] if isinstance(address, tuple) else 0)

    @property
    def free_offset_bytes(self) -> int:
        """First byte touched in each partition, from the tensor's start (loop indices at 0)."""
        return base_of(self.offset) % max(1, self.row_elements) * self.dtype.itemsize

    @property
    def bounds(self) -> tuple[int, int]:
        """Lowest and highest base element touched over all loop iterations."""
        low = base_of(self.offset)
        high = last_of(self.offset)
        for count, stride in zip(self.shape, self.strides, strict=True):
            if stride >= 0:
                high += (count - 1) * stride
            else:
                low += (count - 1) * stride
        if isinstance(self.offset, Affine):
            low += sum(min(0, c * (i.trip - 1)) for i, c in self.offset.terms)
        return low, high

    @property
    def inner_contiguous(self) -> bool:
        """Whether the innermost dimension has unit stride."""
        return self.shape[-1] == 1 or self.strides[-1] == 1

    if not TYPE_CHECKING:  # a checker knows the slots

        def __getattr__(self, name: str) -> Layout:
            # Reached for a slot that is not filled yet: the layout is found on first use.
            if name != "layout":
                raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
            found = self.layout = self._find_layout()
            return found

    def __deepcopy__(self, memo: object) -> Self:
        """Return the view itself: memory is not copied with what holds views of it."""
        return self

    def plain(self) -> AccessPattern:
        """Return this view as an AccessPattern proper, which keeps no contents alive."""
        rule = self.indirection
        if rule is not None:
            rule = replace(rule, index=rule.index.plain())
        return AccessPattern(self.tensor, self.shape, self.strides, self.offset, self.dtype, rule)

    def _find_layout(self) -> Layout:
        tensor = self.tensor
        kind = tensor.kind
        place: Any = None
        if kind.row_elements:
            place = self.offset if self.offset.__class__ is int else base_of(self.offset)
            if kind.in_psum:
                if tensor.address is not None:
                    place = (place, tensor.address)
            else:
                row = kind.row_elements if self.dtype is kind.dtype else max(1, self.row_elements)
                place //= row
                if isinstance(tensor.address, tuple):
                    place += tensor.address[0]
        indirect: tuple[object, ...] | None = None
        if self.indirection is not None:
            rule = self.indirection
            indirect = (rule.kind, rule.stride, rule.limit, rule.index.layout)
        return _layout(kind, self.dtype, self.shape, self.strides, place, indirect)

    def __repr__(self) -> str:
        return (
            f"{self.tensor.name}{list(self.shape)} {self.dtype} in {self.buffer.value}"
            f" (offset {self.offset!r}, strides {list(self.strides)})"
        )
