"""Builds graphs by calling the operators as methods."""

from __future__ import annotations

from collections.abc import Sequence

from emuron.compiler.graph import Op, Value
from emuron.compiler.ops import collectives, order, products, quantize, random, reduction
from emuron.compiler.ops.attention import Attention
from emuron.compiler.ops.contraction import Linear, MatMul
from emuron.compiler.ops.einsum import einsum
from emuron.compiler.ops.gelu import Gelu
from emuron.compiler.ops.network_builder import NetworkBuilder
from emuron.compiler.ops.normalize import LayerNorm, RmsNorm
from emuron.compiler.ops.rope import Rope
from emuron.compiler.ops.softmax import LogSoftmax, Softmax
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

    def dot_general(
        self, x: Value, y: Value, contract: products.Pair, batch: products.Pair = ((), ())
    ) -> Value:
        """Sum of x * y over pairs of dimensions, for each index of the paired batch ones."""
        return self.one(products.DotGeneral(contract, batch), x, y)

    def einsum(self, equation: str, *operands: Value) -> Value:
        """Sum of products named by letters, as in NumPy: "bij,bjk->bik"."""
        return einsum(self, equation, operands)

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

    def softmax(self, x: Value, axis: int = -1) -> Value:
        """Softmax over one dimension."""
        return self._along_last(Softmax(), x, axis)

    def log_softmax(self, x: Value, axis: int = -1) -> Value:
        """Logarithm of the softmax over one dimension."""
        return self._along_last(LogSoftmax(), x, axis)

    def _along_last(self, op: Op, x: Value, axis: int) -> Value:
        """Apply an operator on the last dimension to another one, by exchanging the two."""
        order = list(range(x.type.rank))
        order[axis], order[-1] = order[-1], order[axis]
        return self.permute(self.one(op, self.permute(x, *order)), *order)

    def rope(self, x: Value, cos: Value, sin: Value, *, interleaved: bool = False) -> Value:
        """Rotary embedding of [B, H, S, D] by angles [B, S, R / 2]."""
        return self.one(Rope(interleaved), x, cos, sin)

    def gelu(self, x: Value, approximate: str = "none") -> Value:
        """Gaussian error linear unit, "none" or "tanh"."""
        return self.one(Gelu(approximate), x)

    # Reductions and order.

    def cumulative(self, x: Value, axis: int, kind: str = "sum", *, reverse: bool = False) -> Value:
        """Sum, prod, max, min or logsumexp of all elements so far, along one dimension."""
        return self.one(reduction.Cumulative(axis, kind, reverse), x)

    def reduce(self, kind: str, x: Value, axes: Sequence[int], *, keepdims: bool = False) -> Value:
        """Sum, mean, prod, max, min, any or all over `axes`."""
        return self.one(reduction.Reduce(kind, tuple(axes), keepdims), x)

    def argreduce(self, kind: str, x: Value, axis: int) -> Value:
        """int32 place of the largest ("max") or smallest ("min") element along one dimension."""
        return self.one(reduction.ArgReduce(kind, axis), x)

    def sort(self, x: Value, axis: int, *, descending: bool = False) -> tuple[Value, ...]:
        """Sorted values and their int32 places in x, stable."""
        return self.append(order.Sort(axis, descending), x)

    def topk(self, x: Value, k: int, *, largest: bool = True) -> tuple[Value, ...]:
        """K extreme values of the last dimension, in order, and their int32 places."""
        return self.append(order.TopK(k, largest), x)

    def histogram(self, x: Value, bins: int, low: float, high: float) -> Value:
        """Numbers of elements in equal parts of low..high, int32."""
        return self.one(order.Histogram(bins, low, high), x)

    def rng_bits(
        self,
        key: Value,
        shape: Sequence[int],
        algorithm: str = "threefry",
        to: DType | str = "uint32",
    ) -> Value:
        """Uniform random bits for a key of uint32[2]."""
        return self.one(random.RngBits(tuple(shape), algorithm, dtype(to)), key)

    # Quantisation.

    def quantize(
        self,
        x: Value,
        scale: Value,
        zero_point: Value | None = None,
        *,
        to: DType | str,
        axis: int | None = None,
        block: int = 0,
        low: float | None = None,
        high: float | None = None,
        exact: bool = False,
    ) -> Value:
        """X / scale rounded, plus zero point, saturated to `to` or to low..high."""
        op = quantize.Quantize(dtype(to), axis, block, low, high, exact)
        return self.one(op, x, scale, *(o for o in (zero_point,) if o is not None))

    def dequantize(
        self,
        x: Value,
        scale: Value,
        zero_point: Value | None = None,
        *,
        to: DType | str = "float32",
        axis: int | None = None,
        block: int = 0,
    ) -> Value:
        """(X - zero point) * scale."""
        op = quantize.Dequantize(dtype(to), axis, block)
        return self.one(op, x, scale, *(o for o in (zero_point,) if o is not None))

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
