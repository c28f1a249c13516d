"""The fast back end: tile operations on PyTorch, with our own casts on top of its arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from types import MappingProxyType
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch

from emuron.numerics import rounding
from emuron.numerics.backend import Axis, Comparison, Scan, Shape, reduced_axes
from emuron.numerics.dtypes import DType, bfloat16, float16, float32, tfloat32
from emuron.numerics.float_codes import code_of_upper_half, value_of_code
from emuron.numerics.matmul import K_CHUNK
from emuron.numerics.numpy_backend import NUMPY
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy
from emuron.numerics.torch_matmul import matmul_add, matmul_chunked

Array = Any
F = TypeVar("F", bound=Callable[..., Any])

_STORAGE: Mapping[str, Any] = MappingProxyType(
    {
        "float32": torch.float32,
        "tfloat32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
        "bool_": torch.bool,
        **{name: getattr(torch, name) for name in ("int8", "int16", "int32", "int64")},
        **{name: getattr(torch, name) for name in ("uint8", "uint16", "uint32", "uint64")},
        "float8_e4m3fn_x4": torch.uint32,
        "float8_e5m2_x4": torch.uint32,
        "float4_e2m1fn_x4": torch.uint16,
    }
)
"""PyTorch's types by the name of ours; 8-bit floats are not here, they are kept as uint8 codes."""


def _one_thread(operation: F) -> F:
    """Run an operation on one thread, for the order of a sum must not depend on their number."""

    @wraps(operation)
    def run(*args: Any, **kwargs: Any) -> Any:
        threads = torch.get_num_threads()
        if threads == 1:
            return operation(*args, **kwargs)
        torch.set_num_threads(1)
        try:
            return operation(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return run  # type: ignore[return-value]


def _storage(dtype: DType) -> Any:
    return _STORAGE.get(dtype, torch.uint8)


@cache
def _codes(dtype: DType, saturate: bool, device: str) -> Any:
    return torch.from_numpy(code_of_upper_half(dtype, saturate).copy()).to(device)


@cache
def _values(dtype: DType, device: str) -> Any:
    return torch.from_numpy(value_of_code(dtype).copy()).to(device)


def _pair(a: Array, b: Array) -> tuple[Array, Array]:
    """Return two operands as tensors, a Python number in the type of the other."""
    if not isinstance(a, torch.Tensor):
        return torch.as_tensor(a, dtype=b.dtype, device=b.device), b
    if not isinstance(b, torch.Tensor):
        return a, torch.as_tensor(b, dtype=a.dtype, device=a.device)
    return a, b


def _binary(operation: Callable[..., Any]) -> Callable[[Any, Array, Array], Array]:
    @_one_thread
    def run(_: Any, a: Array, b: Array) -> Array:
        return operation(*_pair(a, b))

    return run


def _unary(operation: Callable[..., Any]) -> Callable[[Any, Array], Array]:
    @_one_thread
    def run(_: Any, x: Array) -> Array:
        return operation(x.contiguous())

    return run


def _sqrt(x: Array) -> Array:
    """Return the correctly rounded square root, which MKL's vector function on the CPU is not."""
    if x.device.type != "cpu":
        return torch.sqrt(x)
    return torch.from_numpy(np.asarray(NUMPY.sqrt(x.detach().numpy())))


class TorchBackend:
    """Tile operations on PyTorch tensors of one device, each on one thread.

    8-bit floats are stored as uint8 codes, since PyTorch lacks some and overflows others in its own
    way. Stochastic rounding and scans go through the NumPy reference, whose bits they share.
    Products are those of `emuron.numerics.torch_matmul`.
    """

    name = "torch"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def asarray(self, array: npt.NDArray[Any]) -> Array:
        """Return a NumPy array as a tensor; 8-bit floats as uint8."""
        array = np.asarray(array)
        if array.dtype == ml_dtypes.bfloat16:
            bits = torch.from_numpy(_writable(array.view(np.int16)))
            return bits.to(self.device).view(torch.bfloat16)
        if array.dtype.itemsize == 1 and array.dtype != np.bool_ and array.dtype != np.int8:
            array = array.view(np.uint8)
        return torch.from_numpy(_writable(array)).to(self.device)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """Return a tensor as a NumPy array; 8-bit floats stay uint8."""
        array = array.detach().cpu()
        if array.dtype == torch.bfloat16:
            bits: npt.NDArray[Any] = array.view(torch.int16).numpy()
            return bits.view(ml_dtypes.bfloat16)
        return np.asarray(array.numpy())

    def empty(self, shape: Shape, dtype: DType) -> Array:
        """Return uninitialised storage."""
        return torch.empty(tuple(shape), dtype=_storage(dtype), device=self.device)

    def zeros(self, shape: Shape, dtype: DType) -> Array:
        """Return storage of zero bytes."""
        return torch.zeros(tuple(shape), dtype=_storage(dtype), device=self.device)

    def full(self, shape: Shape, value: float, dtype: DType) -> Array:
        """Return storage filled with `value` rounded to `dtype`."""
        return self.asarray(NUMPY.full(shape, value, dtype))

    @_one_thread
    def widen(self, stored: Array, dtype: DType) -> Array:
        """Return stored values as float32."""
        if dtype == float32:
            return stored
        if dtype.kind == "packed":
            rounding.refuse_packed(dtype)
        if dtype == tfloat32:
            return (stored.contiguous().view(torch.int32) >> 13 << 13).view(torch.float32)
        if dtype.is_float and dtype.itemsize == 1:
            codes = stored.to(torch.int32).reshape(-1)
            values = _values(dtype, str(stored.device)).index_select(0, codes)
            return values.reshape(stored.shape)
        return stored.to(torch.float32)

    @_one_thread
    def round_to(
        self, x: Array, dtype: DType, policy: NumericsPolicy = DEFAULT_POLICY, counter: int = 0
    ) -> Array:
        """Return float32 values rounded to storage."""
        if dtype == float32:
            return x
        if dtype.kind == "packed":
            rounding.refuse_packed(dtype)
        if not dtype.is_float:
            return _to_integer(x, dtype, policy.nan_to_int)
        if policy.rounding == "stochastic":
            return self.asarray(_as_bits(NUMPY.round_to(self.numpy(x), dtype, policy, counter)))
        if dtype in (bfloat16, float16):
            return x.to(_storage(dtype))
        if dtype == tfloat32:
            return _to_tfloat32(x)
        return _to_codes(x, dtype, policy.overflow_of(dtype) == "saturate")

    def view_bits(self, stored: Array, dtype: DType) -> Array:
        """Return the same bytes as storage of `dtype`."""
        return stored.view(_storage(dtype))

    # What each does stands in `Backend`; transcendental functions get contiguous operands, whose
    # elements PyTorch all computes in one way.
    add = _binary(torch.add)
    subtract = _binary(torch.subtract)
    multiply = _binary(torch.multiply)
    divide = _binary(torch.divide)
    maximum = _binary(torch.maximum)
    minimum = _binary(torch.minimum)
    power = _binary(torch.pow)
    fmod = _binary(torch.fmod)
    bitwise_and = _binary(torch.bitwise_and)
    bitwise_or = _binary(torch.bitwise_or)
    bitwise_xor = _binary(torch.bitwise_xor)
    abs = _unary(torch.abs)
    negative = _unary(torch.neg)
    sign = _unary(lambda x: torch.where(torch.isnan(x), x, torch.sign(x)))
    floor = _unary(torch.floor)
    sqrt = _unary(_sqrt)
    rsqrt = _unary(lambda x: 1 / _sqrt(x))
    reciprocal = _unary(lambda x: 1 / x)
    exp = _unary(torch.exp)
    log = _unary(torch.log)
    sin = _unary(torch.sin)
    cos = _unary(torch.cos)
    arctan = _unary(torch.atan)
    tanh = _unary(torch.tanh)
    sigmoid = _unary(lambda x: 1 / (1 + torch.exp(-x)))
    erf = _unary(torch.erf)

    @_one_thread
    def compare(self, op: Comparison, a: Array, b: Array) -> Array:
        """Return float32 one where the comparison holds and zero elsewhere."""
        return getattr(torch, op)(*_pair(a, b)).to(torch.float32)

    @_one_thread
    def where(self, condition: Array, a: Array, b: Array) -> Array:
        """Return a where `condition` is not zero and b elsewhere."""
        return torch.where(condition != 0, a, b)

    def invert(self, a: Array) -> Array:
        """Return ~a, also for unsigned types, which PyTorch cannot."""
        return self.asarray(NUMPY.invert(self.numpy(a)))

    def left_shift(self, a: Array, b: Array) -> Array:
        """Return a << b; zero from the width of the type on."""
        return self.asarray(NUMPY.left_shift(*self._on_host(a, b)))

    def right_shift(self, a: Array, b: Array) -> Array:
        """Return a >> b, arithmetic for signed types, logical for unsigned ones."""
        return self.asarray(NUMPY.right_shift(*self._on_host(a, b)))

    def _on_host(self, a: Array, b: Array) -> tuple[Any, Any]:
        """Return shift operands as NumPy's: PyTorch leaves large counts and unsigned types
        undefined.
        """
        a, b = _pair(a, b)
        return self.numpy(a), self.numpy(b)

    @_one_thread
    def sum(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the float32 sum; an element's bits depend on its own terms alone."""
        return _reduce_rows(torch.sum, x, axis, keepdims)

    @_one_thread
    def prod(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the float32 product; an element's bits depend on its own factors alone."""
        return _reduce_rows(torch.prod, x, axis, keepdims)

    @_one_thread
    def max(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the largest element, NaN if there is one."""
        return torch.amax(x, dim=reduced_axes(axis, x.ndim), keepdim=keepdims)

    @_one_thread
    def min(self, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        """Return the smallest element, NaN if there is one."""
        return torch.amin(x, dim=reduced_axes(axis, x.ndim), keepdim=keepdims)

    def scan(self, op: Scan, x: Array, axis: int = -1) -> Array:
        """Return the running result of `op`; PyTorch's own would add up in float64."""
        return self.asarray(NUMPY.scan(op, self.numpy(x), axis))

    @_one_thread
    def matmul(self, a: Array, b: Array) -> Array:
        """Return a [..., M, K] @ b [..., K, N], one sum over K."""
        return matmul_chunked(a, b, max(a.shape[-1], 1))

    @_one_thread
    def matmul_chunked(
        self, a: Array, b: Array, k_chunk: int = K_CHUNK, *, exact: bool = False
    ) -> Array:
        """Return a [..., M, K] @ b [..., K, N], chunks of K added in order, as PSUM does."""
        return matmul_chunked(a, b, k_chunk, exact)

    @_one_thread
    def matmul_add(self, total: Array, a: Array, b: Array) -> None:
        """Add a [..., M, K] @ b [..., K, N], K at most 128, to a contiguous `total`."""
        matmul_add(total, a, b)

    def transpose(self, x: Array, axes: Shape) -> Array:
        """Return a view with the axes in the given order."""
        return x.permute(*axes)

    def reshape(self, x: Array, shape: Shape) -> Array:
        """Return the elements in another shape, a view if possible."""
        return x.reshape(tuple(shape))

    @_one_thread
    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """Return the arrays one after another along an axis."""
        return torch.cat(list(arrays), dim=axis)

    @_one_thread
    def take(self, x: Array, indices: Array, axis: int) -> Array:
        """Return the slices of `x` that integer `indices` name; their shape replaces the axis."""
        axis %= x.ndim
        taken = x.index_select(axis, indices.reshape(-1).to(torch.int64))
        return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        """Return a view of another shape by broadcasting."""
        return torch.broadcast_to(x, tuple(shape))

    @_one_thread
    def copyto(self, destination: Array, source: Array) -> None:
        """Write `source`, broadcast, into `destination`."""
        shared = destination.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
        destination.copy_(source.clone() if shared else source)


def _writable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array that PyTorch can share: writable and with positive strides."""
    shareable = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return array if shareable else array.copy()


def _as_bits(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return stored.view(np.uint8) if stored.dtype.itemsize == 1 else stored


def _to_tfloat32(x: Array) -> Array:
    bits = x.contiguous().view(torch.int32)
    rounded = ((bits + (((bits >> 13) & 1) + 0xFFF)) >> 13 << 13).view(torch.float32)
    return torch.where(torch.isnan(x), torch.nan, rounded)


def _to_codes(x: Array, dtype: DType, saturate: bool) -> Array:
    """Encode in at most 8 bits by the table of `float_codes.encode_by_table`."""
    bits = x.contiguous().view(torch.int32).reshape(-1)
    odd = (((bits & 0xFFFF) + 0xFFFF) | bits) >> 16
    codes = _codes(dtype, saturate, str(x.device)).index_select(0, odd & 0xFFFF)
    return codes.reshape(x.shape)


def _to_integer(x: Array, dtype: DType, nan_to_int: int) -> Array:
    if dtype.kind == "bool":
        return x != 0
    rounded = torch.round(x.to(torch.float64))
    rounded = torch.where(torch.isnan(rounded), float(nan_to_int), rounded)
    if dtype.bits < 64:
        return rounded.clamp(dtype.min, dtype.max).to(torch.int64).to(_storage(dtype))
    host = rounding.round_to(rounded.cpu().numpy(), dtype)
    return torch.from_numpy(host).to(x.device)


def _reduce_rows(reduce: Callable[..., Any], x: Array, axis: Axis, keepdims: bool) -> Array:
    """Reduce along contiguous rows, because the order of PyTorch's sums depends on the strides."""
    axes = reduced_axes(axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in kept]
    terms = math.prod(x.shape[i] for i in axes)
    rows = x.permute(*kept, *axes).contiguous().reshape(math.prod(shape), terms)
    if keepdims:
        shape = [1 if i in axes else length for i, length in enumerate(x.shape)]
    return reduce(rows, dim=-1).reshape(shape)
