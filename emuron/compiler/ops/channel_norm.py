"""Normalisations of [N, C, *spatial]: over groups of channels, or by known moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import channel_norm as kernels
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.windows import PARTITIONS
from emuron.compiler.ops.arguments import require, require_float, require_shape
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.normalize import chunk_size
from emuron.compiler.ops.registry import op
from emuron.isa.normalization import mean_and_variance
from emuron.numerics.dtypes import float32


def _check(types: tuple[TensorType, ...], names: tuple[str, ...], least: int) -> TensorType:
    require(
        least <= len(types) - 1 <= len(names),
        f"takes x and {', '.join(names)}; found {len(types)} operands",
    )
    x = types[0]
    require_float(x, "x")
    require(x.rank >= 2, f"x must be [N, C, *spatial], found {x}")
    for name, t in zip(names, types[1:], strict=False):
        require_shape(t, (x.shape[1],), name)
    return x


def _per_channel(ev: EvalContext, values: Array, rank: int) -> Array:
    return ev.backend.reshape(values, (*values.shape, *(1,) * (rank - 2)))


@op("group_norm")
@dataclass(frozen=True, slots=True)
class GroupNorm(Op):
    """y = (x − mean) / sqrt(variance + epsilon) · weight + bias, moments of each group of channels.

    x is [N, C, *spatial]; as many groups as channels make an instance norm. float32 throughout:
    mean m and variance v of each channel by bn_stats over the fewest equal chunks of at most 512
    elements, then bn_aggr; mean M of a group = (Σ m)·(1 / n) over its n channels; its variance
    V = (Σ (v + (m − M)²))·(1 / n), sums as the Tensor engine adds columns of ones, in blocks of
    128 of all channels; scale a = rsqrt(V + epsilon)·weight; shift s = bias − M·a; y = x·a + s,
    two roundings; one more to x's dtype.
    """

    groups: int
    epsilon: float = 1e-5

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type; weight and bias are [C]."""
        x = _check(types, ("weight", "bias"), 0)
        require(
            self.groups >= 1 and x.shape[1] % self.groups == 0,
            f"the {x.shape[1]} channels of x ({x}) do not form {self.groups} equal groups",
        )
        require(x.elements > 0, f"x must not be empty, found {x}")
        return (x,)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x·a + s."""
        b, x = ev.backend, arrays[0]
        batch, channels = x.shape[:2]
        rows = b.reshape(x, (batch * channels, -1))
        moments = mean_and_variance(b, rows, chunk_size(rows.shape[1]))
        mean, variance = (b.reshape(m, (batch, channels)) for m in moments)
        middle = self._averaged(ev, mean)
        away = b.subtract(mean, middle)
        spread = self._averaged(ev, b.add(b.multiply(away, away), variance))
        scale = b.rsqrt(b.add(spread, self.epsilon))
        if len(arrays) > 1:
            scale = b.multiply(scale, arrays[1])
        shift = b.multiply(b.multiply(middle, scale), -1.0)
        if len(arrays) > 2:
            shift = b.add(shift, arrays[2])
        rank = len(x.shape)
        y = b.multiply(x, _per_channel(ev, scale, rank))
        return (b.add(y, _per_channel(ev, shift, rank)),)

    def members(self, channels: int) -> np.ndarray:
        """Return the matrix [C, groups] of ones where a channel is of a group, else zeros."""
        of = np.arange(channels) // (channels // self.groups)
        return np.asarray(of[:, None] == np.arange(self.groups), np.float32)

    def lower(
        self,
        k: KernelContext,
        inputs: tuple[Placed, ...],
        outputs: tuple[Placed, ...],
        epilogue: Op | None = None,
    ) -> None:
        """Normalise with channels on partitions; the activation `epilogue` joins the write."""
        x, *weights = inputs
        weight, bias = (*weights, None, None)[:2]
        function = getattr(epilogue, "activation", None)
        normed = kernels.Normed(x, outputs[0], weight, bias, function)
        chunk = chunk_size(normed.pixels)
        kernels.group_norm(k, normed, self.members(x.shape[1]), self.epsilon, chunk)

    def _averaged(self, ev: EvalContext, values: Array) -> Array:
        """Return [N, C] averaged over each group, at each of its channels."""
        b, channels = ev.backend, values.shape[1]
        size = channels // self.groups
        if size == 1:
            return values
        total = None
        members = self.members(channels)
        same = b.asarray(np.asarray(members @ members.T))
        for start in range(0, channels, PARTITIONS):
            part = b.matmul(values[:, start : start + PARTITIONS], same[start : start + PARTITIONS])
            total = part if total is None else b.add(total, part)
        return b.multiply(total, 1.0 / size)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return groups within and across blocks of channels, an instance norm, no weights."""

        def types(shape: tuple[int, ...], dtype: str, count: int) -> tuple[TensorType, ...]:
            x = TensorType(shape, float32).with_dtype(dtype)
            return (x, *[x.with_shape(shape[1])] * count)

        return (
            Example(cls(4, 1e-5), types((2, 16, 5, 6), "float32", 2)),
            Example(cls(3, 1e-6), types((1, 192, 4, 4), "bfloat16", 2)),
            Example(cls(1, 1e-5), types((1, 140, 9), "float32", 1)),
            Example(cls(6, 1e-5), types((2, 6, 25, 30), "float32", 2)),
            Example(cls(2, 1e-5), types((2, 6, 3, 2, 2), "float32", 0)),
        )


@op("batch_norm")
@dataclass(frozen=True, slots=True)
class BatchNorm(Op):
    """y = (x − mean) / sqrt(variance + epsilon) · weight + bias with known moments [C].

    Operands x [N, C, *spatial], weight, bias, mean, variance. float32 throughout:
    a = rsqrt(variance + epsilon)·weight; s = bias − mean·a; y = x·a + s, two roundings; one more
    to x's dtype. `passes.fold_batch_norm` folds it into the convolution before it.
    """

    epsilon: float = 1e-5

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type; the others are [C]."""
        return (_check(types, ("weight", "bias", "mean", "variance"), 4),)

    def lower(
        self,
        k: KernelContext,
        inputs: tuple[Placed, ...],
        outputs: tuple[Placed, ...],
        epilogue: Op | None = None,
    ) -> None:
        """Scale and shift with channels on partitions; the activation joins the write."""
        x, weight, bias, mean, variance = inputs
        function = getattr(epilogue, "activation", None)
        normed = kernels.Normed(x, outputs[0], weight, bias, function)
        kernels.batch_norm(k, normed, mean, variance, self.epsilon)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x·a + s."""
        b = ev.backend
        x, weight, bias, mean, variance = arrays
        scale = b.multiply(b.rsqrt(b.add(variance, self.epsilon)), weight)
        shift = b.add(b.multiply(b.multiply(mean, scale), -1.0), bias)
        rank = len(x.shape)
        y = b.multiply(x, _per_channel(ev, scale, rank))
        return (b.add(y, _per_channel(ev, shift, rank)),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return images, more channels than partitions in bfloat16, and rows."""

        def types(shape: tuple[int, ...], dtype: str) -> tuple[TensorType, ...]:
            x = TensorType(shape, float32).with_dtype(dtype)
            return (x, *[x.with_shape(shape[1])] * 4)

        ranges = ((-2.0, 2.0), (-2.0, 2.0), (-2.0, 2.0), (-2.0, 2.0), (0.5, 2.0))
        return (
            Example(cls(1e-5), types((2, 6, 4, 5), "float32"), ranges),
            Example(cls(1e-3), types((1, 136, 7), "bfloat16"), ranges),
            Example(cls(1e-5), types((3, 12), "float32"), ranges),
        )
