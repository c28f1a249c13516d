"""The array library behind the simulators: one small protocol, a NumPy and a PyTorch
implementation.

Arrays are the back end's own. Elementwise operations, reductions and products take and return
float32; stored arrays carry one `DType`, which the caller remembers. No operation warns: infinities
and NaN are values. The two agree bit for bit in casts, comparisons, selection, data movement,
`+ - * /`, `sqrt` and, where `matmul.sums_in_order`, in products; transcendental functions and sums
may differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from emuron.errors import UnknownNameError, missing_extra
from emuron.numerics.dtypes import DType
from emuron.numerics.matmul import K_CHUNK
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy

Array = Any
Axis = int | tuple[int, ...] | None
Comparison = Literal["eq", "ne", "lt", "le", "gt", "ge"]
Scan = Literal["add", "multiply", "maximum", "minimum"]
Shape = Sequence[int]

BACKENDS = ("numpy", "torch")


class Backend(Protocol):
    """About 45 tile operations on arrays of one library."""

    @property
    def name(self) -> str:
        """The name that `get_backend` knows."""

    # Arrays in and out
    def asarray(self, array: npt.NDArray[Any]) -> Array:
        """Return a NumPy array (ml_dtypes' included) as an array of this library, shared if
        possible.
        """

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """Return an array as NumPy's, shared if possible; 8-bit floats may come back as uint8."""

    def empty(self, shape: Shape, dtype: DType) -> Array:
        """Return uninitialised storage."""

    def zeros(self, shape: Shape, dtype: DType) -> Array:
        """Return storage of zero bytes."""

    def full(self, shape: Shape, value: float, dtype: DType) -> Array:
        """Return storage filled with `value` rounded to `dtype`."""

    # Values and their storage
    def widen(self, stored: Array, dtype: DType) -> Array:
        """Return stored values as float32, as `rounding.widen` does."""

    def round_to(
        self, x: Array, dtype: DType, policy: NumericsPolicy = DEFAULT_POLICY, counter: int = 0
    ) -> Array:
        """Return float32 values rounded to storage, as `rounding.round_by_policy` does."""

    def view_bits(self, stored: Array, dtype: DType) -> Array:
        """Return the same bytes as storage of `dtype`; the last axis grows or shrinks with the
        size.
        """

    # Elementwise on float32
    def add(self, a: Array, b: Array) -> Array:
        """Return a + b."""

    def subtract(self, a: Array, b: Array) -> Array:
        """Return a - b."""

    def multiply(self, a: Array, b: Array) -> Array:
        """Return a * b."""

    def divide(self, a: Array, b: Array) -> Array:
        """Return a / b."""

    def maximum(self, a: Array, b: Array) -> Array:
        """Return the larger of each pair, NaN if either is."""

    def minimum(self, a: Array, b: Array) -> Array:
        """Return the smaller of each pair, NaN if either is."""

    def power(self, a: Array, b: Array) -> Array:
        """Return a to the power of b."""

    def fmod(self, a: Array, b: Array) -> Array:
        """Return the remainder of a / b with the sign of a."""

    def abs(self, x: Array) -> Array:
        """Return the absolute value."""

    def negative(self, x: Array) -> Array:
        """Return -x."""

    def sign(self, x: Array) -> Array:
        """Return -1, 0 or 1; NaN for NaN."""

    def floor(self, x: Array) -> Array:
        """Return the largest integer not above x."""

    def sqrt(self, x: Array) -> Array:
        """Return the correctly rounded square root."""

    def rsqrt(self, x: Array) -> Array:
        """Return 1 / sqrt(x), both steps rounded to float32."""

    def reciprocal(self, x: Array) -> Array:
        """Return 1 / x."""

    def exp(self, x: Array) -> Array:
        """Return e to the power of x."""

    def log(self, x: Array) -> Array:
        """Return the natural logarithm."""

    def sin(self, x: Array) -> Array:
        """Return the sine of any angle in radians."""

    def cos(self, x: Array) -> Array:
        """Return the cosine of any angle in radians."""

    def arctan(self, x: Array) -> Array:
        """Return the angle in radians whose tangent is x."""

    def tanh(self, x: Array) -> Array:
        """Return the hyperbolic tangent."""

    def sigmoid(self, x: Array) -> Array:
        """Return 1 / (1 + exp(-x))."""

    def erf(self, x: Array) -> Array:
        """Return the error function."""

    def compare(self, op: Comparison, a: Array, b: Array) -> Array:
        """Return float32 one where the comparison holds and zero elsewhere; NaN is only "ne"."""

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        """Return a where `condition` is not zero and b elsewhere."""

    # Raw bits of integer storage
    def bitwise_and(self, a: Array, b: Array) -> Array:
        """Return a & b."""

    def bitwise_or(self, a: Array, b: Array) -> Array:
        """Return a | b."""

    def bitwise_xor(self, a: Array, b: Array) -> Array:
        """Return a ^ b."""

    def invert(self, a: Array) -> Array:
        """Return ~a."""

    def left_shift(self, a: Array, b: Array) -> Array:
        """Return a << b; zero from the width of the type on."""

    def right_shift(self, a: Array, b: Array) -> Array:
        """Return a >> b, arithmetic for signed types, logical for unsigned ones."""

    # Along axes
    def sum(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the float32 sum; an element's bits depend on its own terms alone."""

    def prod(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the float32 product; an element's bits depend on its own factors alone."""

    def max(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the largest element, NaN if there is one."""

    def min(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the smallest element, NaN if there is one."""

    def scan(self, op: Scan, x: Array, axis: int = -1) -> Array:
        """Return the running result of `op`, one float32 step after another."""

    def matmul(self, a: Array, b: Array) -> Array:
        """Return a [..., M, K] @ b [..., K, N], one sum over K."""

    def matmul_chunked(
        self, a: Array, b: Array, k_chunk: int = K_CHUNK, *, exact: bool = False
    ) -> Array:
        """Return a [..., M, K] @ b [..., K, N], chunks of K added in order, as PSUM does.

        `exact` promises that the operands have at most 12 significant bits, so that a product is
        exact in float32 unless it is subnormal or infinite; a fused sum then is a plain one.
        """

    def matmul_add(self, total: Array, a: Array, b: Array) -> None:
        """Add a [..., M, K] @ b [..., K, N], K at most 128, to a contiguous `total`."""

    # Movement
    def transpose(self, x: Array, axes: Shape) -> Array:
        """Return a view with the axes in the given order."""

    def reshape(self, x: Array, shape: Shape) -> Array:
        """Return the elements in another shape, a view if possible."""

    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Return the arrays one after another along an axis."""

    def take(self, x: Array, indices: Array, axis: int) -> Array:
        """Return the slices of `x` that integer `indices` name; their shape replaces the axis."""

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        """Return a view of another shape by broadcasting."""

    def copyto(self, destination: Array, source: Array) -> None:
        """Write `source`, broadcast, into `destination`."""


def get_backend(name: str = "numpy") -> Backend:
    """Return the back end of a name, "torch" on the CPU; raises UnknownNameError,
    MissingExtraError.
    """
    if name == "numpy":
        from emuron.numerics.numpy_backend import NUMPY

        return NUMPY
    if name == "torch":
        try:
            from emuron.numerics.torch_backend import TorchBackend
        except ImportError as error:
            raise missing_extra(error, "The torch back end") or error from error
        return TorchBackend()
    raise UnknownNameError("back end", name, BACKENDS)


def reduced_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the axes that a reduction runs over, non-negative and in order."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(sorted(np.lib.array_utils.normalize_axis_tuple(axes, ndim)))
