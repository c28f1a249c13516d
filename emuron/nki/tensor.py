"""NkiTensor: the view that kernels hold, index, reshape and hand to instructions.

Rules: NKI language guide and the `NkiTensor` reference (`nki_api.md` §4).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn, cast

from emuron.errors import OutOfBoundsError, UsageError
from emuron.isa.affine import Index
from emuron.isa.gathered import GATHER
from emuron.isa.tensor import AccessPattern, Indirection, Tensor
from emuron.nki.dynamic import (
    Beyond,
    check_pattern,
    gathered,
    raw_pattern,
    rows,
    shifted,
    with_offset,
)
from emuron.nki.earlier_forms import form_of, use
from emuron.nki.indexing import DynamicSlice, Key, fixed_dimension, has_rows, resolve
from emuron.nki.recorder import Lease, active_recorder
from emuron.nki.reinterpretation import reinterpreted
from emuron.nki.shapes import completed, exact_split, ints, rearranged, reshaped_strides
from emuron.numerics.dtypes import DType
from emuron.numerics.dtypes import dtype as to_dtype

if TYPE_CHECKING:
    from emuron.nki.recorder import Executor

Rectangle = tuple[Any, Any, Any, Any, Any, Any]  # start, stop, step of two slices, as given

_new = object.__new__
_MOST_SLICES = 1024  # that a view keeps


class NkiTensor(AccessPattern):
    """A strided view of an allocation with the methods of `nki.language.NkiTensor`.

    Indexing gives views. In HBM an int drops its dimension. On chip an int on dimension 0 keeps it
    with size 1, and an int on a free dimension drops it unless fewer than two dimensions would
    remain, in which case the last one stays with size 1. A [1, 1] tile as an index addresses its
    dimension by the value that the tile holds at run time. All views of an allocation share its
    `lease`; a view keeps those taken of it lately, which must not be changed.
    """

    __slots__ = ("lease", "_slices")

    def __init__(
        self,
        tensor: Tensor,
        shape: tuple[int, ...] | None = None,
        strides: tuple[int, ...] | None = None,
        offset: Index = 0,
        dtype: DType | None = None,
        indirection: Indirection | None = None,
        lease: Lease | None = None,
    ) -> None:
        super().__init__(tensor, shape, strides, offset, dtype, indirection)
        self.lease = lease
        self._slices: dict[Rectangle, NkiTensor] = {}

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def name(self) -> str:
        """The allocation's name."""
        return self.tensor.name

    @property
    def data(self) -> NkiTensor:
        """The tensor itself, as of a tile grid."""
        return self

    def _like(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: Index,
        dtype: DType | None = None,
    ) -> NkiTensor:
        kept = self.indirection
        if kept is not None and kept.kind == GATHER:
            raise UsageError(
                f"{self.name} is gathered by an index tile, which has no views. Take them before "
                "indirect()."
            )
        return NkiTensor(self.tensor, shape, strides, offset, dtype or self.dtype, kept, self.lease)

    def __getitem__(self, key: Key) -> NkiTensor:
        # Kernels index for each instruction: what they take of a matrix again has a short way.
        if key.__class__ is tuple and len(key) == 2:
            rows, columns = key
            try:
                return self._slices[
                    rows.start, rows.stop, rows.step, columns.start, columns.stop, columns.step
                ]
            except (KeyError, AttributeError, TypeError):
                made = self._rectangle(rows, columns)
            if made is not None:
                return made
        keys = key if key.__class__ is tuple else (key,)
        return self._general_view(completed(keys, len(self.shape), self.tensor.name))

    def _rectangle(self, rows: Any, columns: Any) -> NkiTensor | None:
        """Return, and keep, the view of a matrix by two slices of ints; None for other keys."""
        if not (rows.__class__ is columns.__class__ is slice):
            return None
        if self.indirection is not None or len(self.shape) != 2:
            return None
        height, width = self.shape
        top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
        if top is None and bottom is None:
            top, bottom = 0, height
        if left is None and right is None:
            left, right = 0, width
        if not (
            rows.step is columns.step is None
            and top.__class__ is left.__class__ is bottom.__class__ is right.__class__ is int
            and 0 <= top < bottom <= height
            and 0 <= left < right <= width
        ):
            return None
        strides = self.strides
        made = _new(NkiTensor)
        made.tensor = self.tensor
        made.shape = (bottom - top, right - left)
        made.strides = strides
        made.offset = self.offset + top * strides[0] + left * strides[1]
        made.dtype = self.dtype
        made.indirection = None
        made.lease = self.lease
        made._slices = {}
        if len(self._slices) >= _MOST_SLICES:
            self._slices.clear()
        rectangle = (rows.start, rows.stop, None, columns.start, columns.stop, None)
        self._slices[rectangle] = made
        return made

    def _general_view(self, keys: tuple[Key, ...]) -> NkiTensor:
        """Return the view for one key a dimension; raise OutOfBoundsError or UsageError."""
        offset = self.offset
        kept: list[tuple[int, int]] = []
        on_chip = self.buffer.is_on_chip
        indirection = self.indirection
        start: Index
        for axis, item in enumerate(keys):
            size, stride = self.shape[axis], self.strides[axis]
            index = item.start if item.__class__ is DynamicSlice else item
            if isinstance(index, AccessPattern):
                count = 1 if index is item else item.size
                indirection = shifted(self, axis, index, size - count + 1, indirection)
                start, step, drops = 0, 1, index is item
            else:
                start, count, step, drops = resolve(item, size, axis, self)
            if axis == 0 and has_rows(self) and (drops or count != size):
                raise fixed_dimension(self, "indexing")
            offset = offset + start * stride
            if not drops or (on_chip and axis == 0):
                kept.append((count, stride * step))
        if len(kept) < (2 if on_chip and len(self.shape) > 1 else 1):
            kept.append((1, 1))
        made = self._like(tuple(c for c, _ in kept), tuple(s for _, s in kept), offset)
        made.indirection = indirection
        return made

    def __setitem__(self, key: Key, value: object) -> NoReturn:
        raise UsageError(
            f"Cannot assign to elements of tensor {self.tensor.name}. Write with an instruction: "
            "nisa.dma_copy or nisa.tensor_copy(dst=tensor[…], src=…), or nisa.memset."
        )

    def __bool__(self) -> bool:
        """Return whether all elements are true; True in HBM, where kernels ask if one was given."""
        if not self.buffer.is_on_chip:
            return True
        active = active_recorder()
        contents = None if active is None else active.contents(self)
        if contents is None:
            raise UsageError(
                f"The truth value of tensor {self.tensor.name} is not known while a kernel is "
                "recorded without data. Compare shapes or Python values, or select with nki.isa."
            )
        use("tensor truth")
        return bool((contents != 0).all())

    def _refuse_operator(self, other: object) -> NoReturn:
        raise UsageError(
            f"Tensor {self.tensor.name} has no Python operators. Use nl.add(x, y), nl.multiply … "
            "or an instruction such as nisa.tensor_tensor."
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse_operator
    __truediv__ = __rtruediv__ = __matmul__ = __pow__ = _refuse_operator
    __lt__ = __le__ = __gt__ = __ge__ = _refuse_operator

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise UsageError(
            f"Tensor {self.tensor.name} is no NumPy array: its contents exist on the device only. "
            "Return it from the kernel, or print it with nl.device_print."
        )

    def __iter__(self) -> NoReturn:
        raise UsageError(
            f"Tensor {self.tensor.name} cannot be iterated over. Loop over "
            f"range({self.shape[0]}) and take slices."
        )

    def is_contiguous(self) -> bool:
        """Return whether the view is dense in row-major order (on chip, its free dimensions)."""
        expected = 1
        first = 1 if self.buffer.is_on_chip else 0
        for count, stride in reversed(list(zip(self.shape, self.strides, strict=True))[first:]):
            if count != 1 and stride != expected:
                return False
            expected *= count
        return True

    def is_indirect(self) -> bool:
        """Return whether the view is addressed by values known at run time only."""
        return self.indirection is not None

    def get_pattern(self) -> list[list[int]]:
        """Return [stride, count] of each dimension, in elements."""
        return [[stride, count] for stride, count in zip(self.strides, self.shape, strict=True)]

    @form_of("views")
    def slice(self, dim: int, start: Index, end: Index, step: int = 1) -> NkiTensor:
        """Return the elements start … end − 1 of dimension `dim`, every `step`-th one."""
        axis = self._axis(dim, "slice")
        keys = [slice(None)] * self.ndim
        keys[axis] = slice(start, end, step)
        return self[tuple(keys)]

    @form_of("views")
    def select(self, dim: int, index: Index | AccessPattern) -> NkiTensor:
        """Return the view without `dim`, at `index`: an int, or a value read at run time.

        Run-time values are [1, 1] tiles in SBUF and registers; a view has at most one, and on chip
        not in dimension 0.
        """
        keys: list[Key] = [slice(None)] * self.ndim
        keys[self._axis(dim, "select")] = index
        return self[tuple(keys)]

    @form_of("views")
    def vector_select(self, dim: int, vector_offset: AccessPattern) -> NkiTensor:
        """Return rows of an HBM tensor: row p is row `vector_offset[p, 0]`, read at run time."""
        return rows(self, dim, vector_offset)

    @form_of("indirect")
    def indirect(self, index: AccessPattern, num_elem: int | None = None) -> NkiTensor:
        """Return [partitions, num_elem] elements at offsets that an index tile holds (trn3).

        How 16 (or 32) partitions share offsets: `emuron.isa.gathered`. It has no further views.
        """
        count, rule = gathered(self, index, num_elem)
        shape, strides = (self.shape[0], count), (self.strides[0], 0)
        return NkiTensor(self.tensor, shape, strides, self.offset, self.dtype, rule, self.lease)

    @form_of("views")
    def permute(self, dims: Sequence[int]) -> NkiTensor:
        """Return a view with permuted dimensions; on chip dims[0] must be 0."""
        given = ints(dims, f"permute: the order of dimensions of {self.name}")
        order = tuple(d + self.ndim if d < 0 else d for d in given)
        if sorted(order) != list(range(self.ndim)):
            raise UsageError(
                f"permute({list(dims)}) does not name each of the {self.ndim} dimensions of "
                f"{self.tensor.name} once."
            )
        if order[0] != 0:
            self._refuse_partitions(0, "permute")
        return self._like(
            tuple(self.shape[d] for d in order), tuple(self.strides[d] for d in order), self.offset
        )

    @form_of("views")
    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """Return a view that repeats a dimension of size 1 (stride 0)."""
        axis = self._axis(dim, "broadcast")
        self._refuse_partitions(axis, "broadcast")
        if self.shape[axis] != 1:
            raise UsageError(
                f"broadcast needs dimension {axis} of {self.tensor.name} to have size 1; it has "
                f"{self.shape[axis]}."
            )
        if operator.index(size) < 1:
            raise UsageError(f"broadcast of {self.name} to size {size}; sizes are at least 1.")
        return self._replaced(axis, axis + 1, (operator.index(size),), (0,))

    @form_of("views")
    def expand_dim(self, dim: int) -> NkiTensor:
        """Return a view with a dimension of size 1 inserted before `dim`."""
        axis = dim + self.ndim + 1 if dim < 0 else dim
        if not 0 <= axis <= self.ndim:
            raise OutOfBoundsError(
                f"expand_dim: {self.name} takes a new dimension at 0 to {self.ndim}, not {dim}."
            )
        if axis == 0:
            self._refuse_partitions(axis, "expand_dim")
        return self._replaced(axis, axis, (1,), (0,))

    @form_of("views")
    def squeeze_dim(self, dim: int) -> NkiTensor:
        """Return a view without dimension `dim`, which must have size 1."""
        axis = self._axis(dim, "squeeze_dim")
        self._refuse_partitions(axis, "squeeze_dim")
        if self.shape[axis] != 1:
            size = self.shape[axis]
            raise UsageError(
                f"squeeze_dim: dimension {axis} of {self.name} has size {size}, not 1."
            )
        return self._replaced(axis, axis + 1, (), ())

    @form_of("views")
    def reshape_dim(self, dim: int, shape: Sequence[int]) -> NkiTensor:
        """Return a view with one dimension split into several; one of them may be −1."""
        axis = self._axis(dim, "reshape_dim")
        counts = exact_split(self.shape[axis], shape, self.tensor.name)
        if counts[0] != self.shape[0]:
            self._refuse_partitions(axis, "reshape_dim")
        strides = [self.strides[axis]]
        for count in reversed(counts[1:]):
            strides.insert(0, strides[0] * count)
        return self._replaced(axis, axis + 1, counts, tuple(strides))

    @form_of("views")
    def flatten_dims(self, start_dim: int, end_dim: int) -> NkiTensor:
        """Return a view with dimensions `start_dim` … `end_dim`, dense together, made one."""
        first, last = self._axis(start_dim, "flatten_dims"), self._axis(end_dim, "flatten_dims")
        self._refuse_partitions(first, "flatten_dims")
        if last < first:
            raise UsageError(
                f"flatten_dims({start_dim}, {end_dim}) of {self.name}: the first comes first."
            )
        count = prod(self.shape[first : last + 1])
        strides = reshaped_strides(
            self.shape[first : last + 1], self.strides[first : last + 1], (count,), self.tensor.name
        )
        return self._replaced(first, last + 1, (count,), strides)

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        """Return a view of the same elements in row-major order; on chip shape[0] must stay."""
        counts = exact_split(self.size, shape, self.tensor.name)
        if counts[0] != self.shape[0]:
            self._refuse_partitions(0, "reshape")
        strides = reshaped_strides(self.shape, self.strides, counts, self.tensor.name)
        return self._like(counts, strides, self.offset)

    @form_of("views")
    def rearrange(
        self,
        src_pattern: Sequence[Any],
        dst_pattern: Sequence[Any],
        fixed_sizes: dict[str, int] | None = None,
    ) -> NkiTensor:
        """Return the view that names in tuples describe, as einops does.

        `("p", ("a", "b"))` to `("p", "b", "a")` splits dimension 1 (one size of each split may be
        left out of `fixed_sizes`) and permutes.
        """
        return rearranged(self, src_pattern, dst_pattern, fixed_sizes or {})

    def view(self, dtype: object) -> NkiTensor:
        """Return the same bytes as another dtype; the last dimension scales by the size ratio."""
        return reinterpreted(self, to_dtype(dtype))

    reinterpret_cast = view

    def ap(
        self,
        pattern: Sequence[Any],
        offset: Index | None = None,
        scalar_offset: AccessPattern | int | None = None,
        vector_offset: AccessPattern | None = None,
        indirect_dim: int = 0,
        dtype: object | None = None,
    ) -> NkiTensor:
        """Return a raw access pattern [[step, count], …] over the flattened storage, slowest first.

        Units are elements of `dtype` (default: the tensor's). `offset` None keeps the view's own
        offset, an integer is absolute. Run-time addressing counts rows of dimension `indirect_dim`
        of this view's shape: `scalar_offset` (a [1, 1] tile, a register or an int) shifts the
        pattern, `vector_offset` gives each row of the pattern a row of a tensor in HBM. A pattern
        beyond the storage raises OutOfBoundsError where it is used.
        """
        made = raw_pattern(self, pattern, offset, dtype)
        with_offset(made, self, scalar_offset, vector_offset, indirect_dim)
        try:
            check_pattern(made)
        except OutOfBoundsError as error:
            return cast(NkiTensor, Beyond(made, str(error)))
        return made

    def _axis(self, dim: int, method: str) -> int:
        axis = dim + self.ndim if dim < 0 else dim
        if not 0 <= axis < self.ndim:
            raise OutOfBoundsError(
                f"{method}: {self.tensor.name} has dimensions 0 to {self.ndim - 1}, not {dim}."
            )
        return axis

    def _refuse_partitions(self, axis: int, method: str) -> None:
        if axis == 0 and (self.buffer.is_on_chip or has_rows(self)):
            raise fixed_dimension(self, method)

    def _replaced(
        self, first: int, last: int, counts: tuple[int, ...], strides: tuple[int, ...]
    ) -> NkiTensor:
        """Return the view with dimensions `first` … `last` − 1 replaced."""
        return self._like(
            (*self.shape[:first], *counts, *self.shape[last:]),
            (*self.strides[:first], *strides, *self.strides[last:]),
            self.offset,
        )


def tile_like(like: AccessPattern, tensor: Tensor, executor: Executor | None) -> NkiTensor:
    """Return a new tile, given another one of the same layout and its own allocation."""
    made = _new(NkiTensor)
    made.tensor = tensor
    made.shape = like.shape
    made.strides = like.strides
    made.offset = 0
    made.dtype = like.dtype
    made.indirection = None
    made.layout = like.layout
    made.lease = None if executor is None else Lease(executor.machine, tensor)
    made._slices = {}
    return made
