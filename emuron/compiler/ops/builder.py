"""Builds graphs by calling the operators as methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from emuron.compiler.graph import Graph, Op, TensorType, Value
from emuron.compiler.ops import (
    collectives,
    control,
    kernel_call,
    order,
    products,
    quantize,
    random,
    reduction,
)
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
        window: int = 0,
        softcap: float = 0.0,
        sinks: Value | None = None,
    ) -> Value:
        """Scaled dot-product attention over [batch, heads, sequence, head size]."""
        masked, positioned, sunk = (o is not None for o in (mask, positions, sinks))
        op = Attention(scale, causal, masked, positioned, window, softcap, sunk)
        return self.one(op, q, k, v, *(o for o in (mask, positions, sinks) if o is not None))

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

    def all_to_all(self, x: Value, ranks: int, split: int, axis: int) -> Value:
        """Parts of x of all ranks, cut along `split`, that are meant for one, along `axis`."""
        return self.one(collectives.AllToAll(ranks, axis, split), x)

    def collective_permute(self, x: Value, ranks: int, pairs: Sequence[tuple[int, int]]) -> Value:
        """X of the rank that sends to this one, by pairs of (source, target)."""
        return self.one(collectives.CollectivePermute(ranks, tuple(pairs)), x)

    # Graphs and kernels within a graph.

    def call(self, body: Graph, *operands: Value) -> tuple[Value, ...]:
        """Apply another graph and return its outputs."""
        return self.append(control.Call(body), *operands)

    def cond(self, which: Value, branches: Sequence[Graph], *operands: Value) -> tuple[Value, ...]:
        """Apply the branch that a bool_ (false, true) or a clamped integer names."""
        return self.append(control.Cond(tuple(branches)), which, *operands)

    def while_loop(self, condition: Graph, body: Graph, *carried: Value) -> tuple[Value, ...]:
        """Values after as many rounds of body as condition holds."""
        return self.append(control.While(condition, body), *carried)

    def scan(
        self,
        body: Graph,
        length: int,
        carried: Sequence[Value],
        stacked: Sequence[Value] = (),
        constants: Sequence[Value] = (),
        *,
        reverse: bool = False,
    ) -> tuple[Value, ...]:
        """Values carried through `length` rounds of body, then its stacked slices."""
        op = control.Scan(body, length, len(carried), len(constants), reverse)
        return self.append(op, *constants, *carried, *stacked)

    def kernel_call(
        self,
        kernel: Callable[..., Any],
        operands: Sequence[Value],
        results: Sequence[TensorType],
        updates: Sequence[int] = (),
        **attributes: Any,
    ) -> tuple[Value, ...]:
        """Results of an NKI kernel, then the new contents of the operands it writes to."""
        named = tuple(sorted(attributes.items()))
        function = kernel_call.KernelFunction(kernel)
        op = kernel_call.KernelCall(function, tuple(results), named, tuple(updates))
        return self.append(op, *operands)
