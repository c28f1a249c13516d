"""The executable reference: tile operations on NumPy and ml_dtypes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.numerics import matmul, rounding, special
from emuron.numerics.backend import Axis, Backend, Comparison, Scan, Shape, reduced_axes
from emuron.numerics.dtypes import DType
from emuron.numerics.matmul import K_CHUNK
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy

Array = npt.NDArray[Any]

_FAR_BYTES = 512  # between rows whose columns are read
_LEAST_STAGED, _MOST_STAGED = 1 << 13, 1 << 17  # bytes of a transposed tile
_PADDING_BYTES = 16

_quiet = np.errstate(all="ignore")


class NumpyBackend:
    """Tile operations on NumPy arrays; 8-bit floats are stored in ml_dtypes' types.

    NumPy's float32 functions give an element the same bits wherever it stands in an array, strided
    or not (checked for each of them), so only sums and products need care for their layout.
    """

    name = "numpy"

    def asarray(self, array: npt.NDArray[Any]) -> Array:
        """Return the array itself."""
        return array

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """Return the array itself."""
        return array

    def empty(self, shape: Shape, dtype: DType) -> Array:
        """Return uninitialised storage."""
        return np.empty(tuple(shape), dtype.np)

    def zeros(self, shape: Shape, dtype: DType) -> Array:
        """Return storage of zero bytes."""
        return np.zeros(tuple(shape), dtype.np)

    def full(self, shape: Shape, value: float, dtype: DType) -> Array:
        """Return storage filled with `value` rounded to `dtype`."""
        if dtype.is_integer and isinstance(value, int):
            return np.full(tuple(shape), value, dtype.np)
        stored = rounding.round_to(np.full(1, value, np.float32), dtype)
        return np.full(tuple(shape), stored[0], dtype.np)

    def widen(self, stored: Array, dtype: DType) -> Array:
        """Return stored values as float32."""
        return rounding.widen(stored, dtype)

    def round_to(
        self, x: Array, dtype: DType, policy: NumericsPolicy = DEFAULT_POLICY, counter: int = 0
    ) -> Array:
        """Return float32 values rounded to storage."""
        return rounding.round_by_policy(x, dtype, policy, counter)

    def view_bits(self, stored: Array, dtype: DType) -> Array:
        """Return the same bytes as storage of `dtype`."""
        return stored.view(dtype.np)

    @_quiet
    def add(self, a: Array, b: Array) -> Array:
        """Return a + b."""
        return np.add(a, b)

    @_quiet
    def subtract(self, a: Array, b: Array) -> Array:
        """Return a - b."""
        return np.subtract(a, b)

    @_quiet
    def multiply(self, a: Array, b: Array) -> Array:
        """Return a * b."""
        return np.multiply(a, b)

    @_quiet
    def divide(self, a: Array, b: Array) -> Array:
        """Return a / b."""
        return np.divide(a, b)

    @_quiet
    def maximum(self, a: Array, b: Array) -> Array:
        """Return the larger of each pair, NaN if either is."""
        return np.maximum(a, b)

    @_quiet
    def minimum(self, a: Array, b: Array) -> Array:
        """Return the smaller of each pair, NaN if either is."""
        return np.minimum(a, b)

    @_quiet
    def power(self, a: Array, b: Array) -> Array:
        """Return a to the power of b."""
        return np.power(a, b)

    @_quiet
    def fmod(self, a: Array, b: Array) -> Array:
        """Return the remainder of a / b with the sign of a."""
        return np.fmod(a, b)

    @_quiet
    def abs(self, x: Array) -> Array:
        """Return the absolute value."""
        return np.abs(x)

    @_quiet
    def negative(self, x: Array) -> Array:
        """Return -x."""
        return np.negative(x)

    @_quiet
    def sign(self, x: Array) -> Array:
        """Return -1, 0 or 1; NaN for NaN."""
        return np.sign(x)

    @_quiet
    def floor(self, x: Array) -> Array:
        """Return the largest integer not above x."""
        return np.floor(x)

    @_quiet
    def sqrt(self, x: Array) -> Array:
        """Return the correctly rounded square root."""
        return np.sqrt(x)

    @_quiet
    def rsqrt(self, x: Array) -> Array:
        """Return 1 / sqrt(x), both steps rounded to float32."""
        return np.divide(np.float32(1), np.sqrt(x))

    @_quiet
    def reciprocal(self, x: Array) -> Array:
        """Return 1 / x."""
        return np.divide(np.float32(1), x)

    @_quiet
    def exp(self, x: Array) -> Array:
        """Return e to the power of x."""
        return np.exp(x)

    @_quiet
    def log(self, x: Array) -> Array:
        """Return the natural logarithm."""
        return np.log(x)

    @_quiet
    def sin(self, x: Array) -> Array:
        """Return the sine of any angle in radians."""
        return np.sin(x)

    @_quiet
    def cos(self, x: Array) -> Array:
        """Return the cosine of any angle in radians."""
        return np.cos(x)

    @_quiet
    def arctan(self, x: Array) -> Array:
        """Return the angle in radians whose tangent is x."""
        return np.arctan(x)

    @_quiet
    def tanh(self, x: Array) -> Array:
        """Return the hyperbolic tangent."""
        return np.tanh(x)

    @_quiet
    def sigmoid(self, x: Array) -> Array:
        """Return 1 / (1 + exp(-x))."""
        result = np.exp(np.negative(x))
        result += np.float32(1)
        return np.divide(np.float32(1), result)

    def erf(self, x: Array) -> Array:
        """Return the error function, within 2 units in the last place."""
        return special.erf(x)

    @_quiet
    def compare(self, op: Comparison, a: Array, b: Array) -> Array:
        """Return float32 one where the comparison holds and zero elsewhere."""
        holds: Array = _COMPARISONS[op](a, b)
        return holds.astype(np.float32)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        """Return a where `condition` is not zero and b elsewhere."""
        return np.where(np.not_equal(condition, 0), a, b)

    def bitwise_and(self, a: Array, b: Array) -> Array:
        """Return a & b."""
        return np.bitwise_and(a, b)

    def bitwise_or(self, a: Array, b: Array) -> Array:
        """Return a | b."""
        return np.bitwise_or(a, b)

    def bitwise_xor(self, a: Array, b: Array) -> Array:
        """Return a ^ b."""
        return np.bitwise_xor(a, b)

    def invert(self, a: Array) -> Array:
        """Return ~a."""
        return np.invert(a)

    def left_shift(self, a: Array, b: Array) -> Array:
        """Return a << b; zero from the width of the type on."""
        return np.left_shift(a, b)

    def right_shift(self, a: Array, b: Array) -> Array:
        """Return a >> b, arithmetic for signed types, logical for unsigned ones."""
        return np.right_shift(a, b)

    @_quiet
    def sum(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the float32 sum; an element's bits depend on its own terms alone."""
        return _reduce_rows(np.add, x, axis, keepdims)

    @_quiet
    def prod(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the float32 product; an element's bits depend on its own factors alone."""
        return _reduce_rows(np.multiply, x, axis, keepdims)

    def max(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the largest element, NaN if there is one."""
        reduce: Any = np.maximum.reduce  # without NumPy's Python wrapper
        return np.asarray(reduce(x, axis=axis, keepdims=keepdims))

    def min(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the smallest element, NaN if there is one."""
        reduce: Any = np.minimum.reduce  # without NumPy's Python wrapper
        return np.asarray(reduce(x, axis=axis, keepdims=keepdims))

    @_quiet
    def scan(self, op: Scan, x: Array, axis: int = -1) -> Array:
        """Return the running result of `op`, one float32 step after another."""
        running: Array = _SCANS[op].accumulate(x, axis=axis)
        return running

    @_quiet
    def matmul(self, a: Array, b: Array) -> Array:
        """Return a [..., M, K] @ b [..., K, N], one sum over K."""
        return matmul.matmul(a, b)

    @_quiet
    def matmul_chunked(
        self, a: Array, b: Array, k_chunk: int = K_CHUNK, *, exact: bool = False
    ) -> Array:
        """Return a [..., M, K] @ b [..., K, N], chunks of K added in order, as PSUM does."""
        return matmul.matmul_chunked(a, b, k_chunk)

    @_quiet
    def matmul_add(self, total: Array, a: Array, b: Array) -> None:
        """Add a [..., M, K] @ b [..., K, N], K at most 128, to a contiguous `total`."""
        total += matmul.matmul(a, b)

    def transpose(self, x: Array, axes: Shape) -> Array:
        """Return a view with the axes in the given order."""
        return np.transpose(x, tuple(axes))

    def reshape(self, x: Array, shape: Shape) -> Array:
        """Return the elements in another shape, a view if possible."""
        return np.reshape(x, tuple(shape))

    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Return the arrays one after another along an axis."""
        return np.concatenate(arrays, axis=axis)

    def take(self, x: Array, indices: Array, axis: int) -> Array:
        """Return the slices of `x` that integer `indices` name; their shape replaces the axis."""
        return np.take(x, indices, axis=axis)

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        """Return a view of another shape by broadcasting."""
        return np.broadcast_to(x, tuple(shape))

    def copyto(self, destination: Array, source: Array) -> None:
        """Write `source`, broadcast, into `destination`."""
        if source.ndim == 2 and source.strides[1] >= _FAR_BYTES > source.strides[0] > 0:
            source = _staged(source)
        np.copyto(destination, source)


_COMPARISONS: Mapping[str, np.ufunc] = MappingProxyType(
    {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }
)
_SCANS: Mapping[str, np.ufunc] = MappingProxyType(
    {"add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}
)


def _staged(source: Array) -> Array:
    """Return a transposed view of a tile over rows that do not compete for the same cache lines.

    Rows a power of two apart do: reading their columns takes several times as long.
    """
    columns, rows = source.shape
    if not _LEAST_STAGED <= source.nbytes <= _MOST_STAGED:
        return source
    padding = _PADDING_BYTES // source.itemsize
    stage = np.empty((rows, columns + padding), source.dtype)[:, :columns]
    np.copyto(stage, source.T)
    return stage.T


def _reduce_rows(op: np.ufunc, x: Array, axis: Axis, keepdims: bool) -> Array:
    """Reduce along contiguous rows, because the order of NumPy's sums depends on the strides."""
    if axis in (-1, x.ndim - 1) and x.flags.c_contiguous:
        return np.asarray(op.reduce(x, axis=-1, keepdims=keepdims))
    axes = reduced_axes(axis, x.ndim)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    rows = np.ascontiguousarray(np.transpose(x, kept + axes))
    shape = tuple(x.shape[i] for i in kept)
    terms = math.prod(x.shape[i] for i in axes)
    reduced: Array = op.reduce(rows.reshape(*shape, terms), axis=-1)
    if keepdims:
        shape = tuple(1 if i in axes else length for i, length in enumerate(x.shape))
    return np.asarray(reduced).reshape(shape)


NUMPY: Backend = NumpyBackend()
