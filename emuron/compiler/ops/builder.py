"""Builds graphs by calling the operators as methods."""

from __future__ import annotations

from collections.abc import Sequence

from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import collectives, creation, indexed, reduction, shaping
from emuron.compiler.ops.attention import Attention
from emuron.compiler.ops.contraction import Linear, MatMul
from emuron.compiler.ops.gelu import Gelu
from emuron.compiler.ops.network_builder import NetworkBuilder
from emuron.compiler.ops.normalize import LayerNorm, RmsNorm
from emuron.compiler.ops.rope import Rope
from emuron.compiler.ops.softmax import Softmax
from emuron.errors import UsageError
from emuron.numerics.dtypes import DType, dtype


class GraphBuilder(NetworkBuilder):
    """A NodeBuilder whose methods are operators; two-operand ones insert explicit broadcasts."""

    # Contractions and composites.

    def linear(self, x: Value, weight: Value, bias: Value | None = None) -> Value:
        """X @ weight.T + bias, weight [outputs, inputs]."""
        return self.one(Linear(), x, weight, *([] if bias is None else [bias]))

    def matmul(self, x: Value, y: Value) -> Value:
        """X @ y with equal leading dimensions."""
        return self.one(MatMul(), x, y)

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        mask: Value | None = None,
        *,
        scale: float,
        causal: bool = False,
        positions: Value | None = None,
    ) -> Value:
        """Scaled dot-product attention over [batch, heads, sequence, head size]."""
        op = Attention(scale, causal, mask is not None, positions is not None)
        return self.one(op, q, k, v, *(o for o in (mask, positions) if o is not None))

    def layer_norm(
        self, x: Value, weight: Value | None = None, bias: Value | None = None, *, epsilon: float
    ) -> Value:
        """Layer normalisation over the last dimension."""
        if weight is None and bias is not None:
            raise UsageError("layer_norm takes a bias only together with a weight")
        return self.one(LayerNorm(epsilon), x, *(o for o in (weight, bias) if o is not None))

    def rms_norm(self, x: Value, weight: Value | None = None, *, epsilon: float) -> Value:
        """RMS normalisation over the last dimension."""
        return self.one(RmsNorm(epsilon), x, *(o for o in (weight,) if o is not None))

    def softmax(self, x: Value) -> Value:
        """Softmax over the last dimension."""
        return self.one(Softmax(), x)

    def rope(self, x: Value, cos: Value, sin: Value, *, interleaved: bool = False) -> Value:
        """Rotary embedding of [B, H, S, D] by angles [B, S, R / 2]."""
        return self.one(Rope(interleaved), x, cos, sin)

    def gelu(self, x: Value, approximate: str = "none") -> Value:
        """Gaussian error linear unit, "none" or "tanh"."""
        return self.one(Gelu(approximate), x)

    # Shapes.

    def reshape(self, x: Value, *shape: int) -> Value:
        """X in another shape; one size may be -1."""
        if -1 in shape:
            known = 1
            for size in shape:
                known *= 1 if size == -1 else size
            shape = tuple(x.type.elements // max(known, 1) if s == -1 else s for s in shape)
        return x if shape == x.shape else self.one(shaping.Reshape(shape), x)

    def permute(self, x: Value, *axes: int) -> Value:
        """X with its dimensions in another order."""
        return self.one(shaping.Permute(axes), x)

    def slice(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """x[start:stop:step] along one dimension."""
        starts, stops, steps = [0] * x.type.rank, list(x.shape), [1] * x.type.rank
        starts[axis], stops[axis], steps[axis] = start, stop, step
        return self.one(shaping.Slice(tuple(starts), tuple(stops), tuple(steps)), x)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values joined along one dimension."""
        return self.one(shaping.Concat(axis), *values)

    def cast(self, x: Value, to: DType | str) -> Value:
        """X in another dtype."""
        new = dtype(to)
        return x if x.type.dtype == new else self.one(shaping.Cast(new), x)

    # Creation, places and reductions.

    def iota(self, shape: Sequence[int], axis: int, to: DType | str = "int32") -> Value:
        """0, 1, 2 ... along one dimension."""
        return self.one(creation.Iota(tuple(shape), axis, dtype(to)))

    def constant(self, values: Sequence[float], type: TensorType) -> Value:
        """Small host data in row-major order."""
        return self.one(creation.Constant(tuple(values), type.shape, type.dtype))

    def take(self, x: Value, index: Value, axis: int = 0) -> Value:
        """Slices of x at the places in index (embedding lookup)."""
        return self.one(indexed.Take(axis), x, index)

    def scatter(
        self, x: Value, update: Value, index: Value, axis: int, *, batched: bool = False
    ) -> Value:
        """X with the slices at `index` along `axis` replaced by those of update."""
        return self.one(indexed.Scatter(axis, batched), x, update, index)

    def cumulative(self, x: Value, axis: int) -> Value:
        """Cumulative sum along one dimension."""
        return self.one(reduction.Cumulative(axis), x)

    def reduce(self, kind: str, x: Value, axes: Sequence[int], *, keepdims: bool = False) -> Value:
        """Sum, mean, max or min over `axes`."""
        return self.one(reduction.Reduce(kind, tuple(axes), keepdims), x)

    # Exchanges among ranks.

    def all_reduce(self, x: Value, ranks: int) -> Value:
        """Sum of x over all ranks."""
        return self.one(collectives.AllReduce(ranks), x)

    def all_gather(self, x: Value, ranks: int, axis: int) -> Value:
        """X of all ranks, one after another along one dimension."""
        return self.one(collectives.AllGather(ranks, axis), x)

    def reduce_scatter(self, x: Value, ranks: int, axis: int) -> Value:
        """Part of one rank, along one dimension, of the sum of x over all ranks."""
        return self.one(collectives.ReduceScatter(ranks, axis), x)
