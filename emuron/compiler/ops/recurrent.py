"""Recurrent layers of one direction: LSTM and GRU over a whole sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import recurrent
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.linear import LinearPacking
from emuron.compiler.kernels.recurrent import Layer
from emuron.compiler.ops.arguments import require, require_float, require_shape
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, float32


@dataclass(frozen=True, slots=True)
class _Recurrent(Op):
    """What LSTM and GRU share: operands, their checks and the products of the input."""

    gates: str
    biased: bool = True
    begun: bool = False
    reverse: bool = False
    contracts: ClassVar[tuple[int, ...]] = (0, 1, 2)
    orders: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return [S, B, H] of all steps and the last states [B, H]."""
        require(self.gates in self.orders, f"gates must be one of {self.orders}: {self.gates!r}")
        names = ("x", "weight_ih", "weight_hh", *self._optional())
        require(
            len(types) == len(names),
            f"takes {len(names)} operands ({', '.join(names)}), found {len(types)}",
        )
        x, first, second = types[:3]
        for type, name in zip(types, names, strict=True):
            require_float(type, name)
        require(
            x.rank == 3 and x.shape[0] > 0 and second.rank == 2,
            f"x ({x}) must be [S, B, I] with a step or more, weight_hh ({second}) [G·H, H]",
        )
        hidden, count = second.shape[1], len(self.gates)
        require_shape(first, (count * hidden, x.shape[2]), "weight_ih")
        require_shape(second, (count * hidden, hidden), "weight_hh")
        for type, name in zip(types[3:], names[3:], strict=True):
            shape = (count * hidden,) if name.startswith("bias") else (x.shape[1], hidden)
            require_shape(type, shape, name)
        state = x.with_shape(x.shape[1], hidden)
        return (x.with_shape(x.shape[0], *state.shape), *(state for _ in self.states))

    def _optional(self) -> tuple[str, ...]:
        biases = ("bias_ih", "bias_hh") if self.biased else ()
        return (*biases, *(self.states if self.begun else ()))

    def steps(self, count: int) -> range:
        """Return the numbers of the steps in the order in which they are taken."""
        return range(count - 1, -1, -1) if self.reverse else range(count)

    def packing(
        self, operand: int, types: tuple[TensorType, ...], dtype: DType
    ) -> LinearPacking | None:
        """Return the layout of a weight: that of a linear layer."""
        if operand not in (1, 2):
            return None
        rows, columns = types[operand].shape
        return LinearPacking(rows, columns, dtype.itemsize)

    def _layer(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> Layer:
        """Return what the kernel needs; refuse what it does not take."""
        x, first, second = inputs[:3]
        if first.packing is None or second.packing is None:
            raise UnsupportedOpError(f"{self.name} has a kernel only for weights as parameters")
        if x.shape[1] > recurrent.MOST_BATCH:
            raise UnsupportedOpError(
                f"{self.name} has a kernel for batches up to {recurrent.MOST_BATCH}, found "
                f"{x.shape[1]}"
            )
        biases = (inputs[3], inputs[4]) if self.biased else (None, None)
        hidden, order = outputs[0].shape[2], self.steps(x.shape[0])
        return Layer(x, (first, second), biases, self.gates, hidden, order, outputs[0].dtype)

    def _inputs(self, ev: EvalContext, arrays: tuple[Array, ...]) -> Array:
        """Return x·weight_ih + bias_ih of all steps, [S, B, G·H] float32."""
        b = ev.backend
        x, weight = arrays[:2]
        rows = b.reshape(x, (-1, x.shape[2]))
        made = b.matmul_chunked(rows, b.transpose(weight, (1, 0)))
        if self.biased:
            made = b.add(made, arrays[3])
        return b.reshape(made, (x.shape[0], x.shape[1], -1))

    def _begin(self, ev: EvalContext, arrays: tuple[Array, ...]) -> list[Array]:
        """Return the states before the first step."""
        if self.begun:
            return list(arrays[-len(self.states) :])
        shape = (arrays[0].shape[1], arrays[2].shape[1])
        return [ev.backend.zeros(shape, float32) for _ in self.states]

    def _split(self, values: Array, hidden: int) -> dict[str, Array]:
        """Return the columns of each gate."""
        return {g: values[:, i * hidden : (i + 1) * hidden] for i, g in enumerate(self.gates)}

    def _recurrent(self, ev: EvalContext, state: Array, weight: Array) -> Array:
        """Return state·weight.T, the state rounded as a product reads it."""
        taken = ev.operand_like(state, 0)
        return ev.backend.matmul_chunked(taken, ev.backend.transpose(weight, (1, 0)))

    def _stored(self, ev: EvalContext, state: Array) -> Array:
        """Return a state as it is stored between the steps."""
        return ev.rounded(state, ev.cast.written(ev.types[0].dtype))

    def _joined(self, ev: EvalContext, outputs: dict[int, Array]) -> Array:
        """Return the steps' outputs as one array, in the order of the sequence."""
        b = ev.backend
        rows = [b.reshape(outputs[t], (1, *outputs[t].shape)) for t in sorted(outputs)]
        return b.concatenate(rows, 0)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both directions, with and without biases and first states, K above a chunk."""

        def types(op: _Recurrent, shape: tuple[int, ...], hidden: int, dtype: str) -> Example:
            rows, x = len(op.gates) * hidden, TensorType(shape, float32)
            named = [x, x.with_shape(rows, shape[2]), x.with_shape(rows, hidden)]
            named += [x.with_shape(rows)] * (2 * op.biased)
            named += [x.with_shape(shape[1], hidden)] * (len(op.states) * op.begun)
            small = ((-2.0, 2.0), *((-0.3, 0.3),) * (len(named) - 1))
            return Example(op, tuple(t.with_dtype(dtype) for t in named), small)

        return (
            types(cls(cls.orders[0]), (5, 2, 6), 8, "float32"),
            types(cls(cls.orders[1], False, True, True), (4, 3, 140), 40, "bfloat16"),
            types(cls(cls.orders[0], True, True), (3, 1, 10), 136, "float32"),
        )


@op("lstm")
@dataclass(frozen=True, slots=True)
class Lstm(_Recurrent):
    """One direction of one LSTM layer: x [S, B, I] to y [S, B, H], last h and last c [B, H].

    Operands x, weight_ih [4·H, I], weight_hh [4·H, H], with `biased` bias_ih and bias_hh [4·H],
    with `begun` h and c before the first step (else 0). `gates` is the order of the rows: "ifgo"
    (PyTorch), "iofg" (ONNX: iofc). `reverse` begins with the last step.

    p = x·weight_ih + bias_ih; q = h·weight_hh + bias_hh; each product as `linear` takes it, h
    rounded as x is; then in float32 i, f, o = sigmoid(q + p), g = tanh(q + p);
    c = f·c + i·g, kept in float32; h = o·tanh(c), rounded to x's dtype.
    """

    orders: ClassVar[tuple[str, ...]] = ("ifgo", "iofg")
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the steps one after another."""
        begun = inputs[-2:] if self.begun else (None, None)
        layer = self._layer(k, inputs, outputs)
        recurrent.lstm(k, layer, (begun[0], begun[1]), (outputs[0], outputs[1], outputs[2]))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return all steps' h, the last h and the last c."""
        b, weight = ev.backend, arrays[2]
        inputs = self._inputs(ev, arrays)
        h, c = self._begin(ev, arrays)
        outputs = {}
        for t in self.steps(inputs.shape[0]):
            product = self._recurrent(ev, h, weight)
            if self.biased:
                product = b.add(product, arrays[4])
            gate = self._split(b.add(product, inputs[t]), weight.shape[1])
            kept = b.multiply(b.sigmoid(gate["f"]), c)
            c = b.add(kept, b.multiply(b.sigmoid(gate["i"]), b.tanh(gate["g"])))
            h = self._stored(ev, b.multiply(b.sigmoid(gate["o"]), b.tanh(c)))
            outputs[t] = h
        return self._joined(ev, outputs), h, c


@op("gru")
@dataclass(frozen=True, slots=True)
class Gru(_Recurrent):
    """One direction of one GRU layer: x [S, B, I] to y [S, B, H] and the last h [B, H].

    Operands as those of `lstm` with 3·H rows and h alone. `gates` is the order of the rows: "rzn"
    (PyTorch), "zrn" (ONNX: zrh). With `reset_after` (PyTorch; ONNX's linear_before_reset) the
    reset gate scales h's product, else h itself.

    p = x·weight_ih + bias_ih; q = h·weight_hh + bias_hh as in `lstm`; r, z = sigmoid(q + p);
    n = tanh(r·q + p) with `reset_after`, else tanh(((r·h)·weight_hh + bias_hh) + p);
    h = z·(h − n) + n, rounded to x's dtype.
    """

    reset_after: bool = True
    orders: ClassVar[tuple[str, ...]] = ("rzn", "zrn")
    states: ClassVar[tuple[str, ...]] = ("h",)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the steps one after another."""
        if not self.reset_after:
            raise UnsupportedOpError("gru has a kernel only where the reset follows the product")
        layer = self._layer(k, inputs, outputs)
        begun = inputs[-1] if self.begun else None
        recurrent.gru(k, layer, begun, (outputs[0], outputs[1]))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return all steps' h and the last h."""
        inputs = self._inputs(ev, arrays)
        (h,) = self._begin(ev, arrays)
        outputs = {}
        for t in self.steps(inputs.shape[0]):
            h = self._step(ev, arrays, inputs[t], h)
            outputs[t] = h
        return self._joined(ev, outputs), h

    def _step(self, ev: EvalContext, arrays: tuple[Array, ...], inputs: Array, h: Array) -> Array:
        b, weight = ev.backend, arrays[2]
        hidden = weight.shape[1]
        product = self._recurrent(ev, h, weight)
        if self.biased:
            product = b.add(product, arrays[4])
        p, q = (self._split(v, hidden) for v in (inputs, product))
        r, z = (b.sigmoid(b.add(q[gate], p[gate])) for gate in "rz")
        if self.reset_after:
            scaled = b.multiply(r, q["n"])
        else:
            at = slice(2 * hidden, 3 * hidden)
            scaled = self._recurrent(ev, b.multiply(r, h), weight[at])
            if self.biased:
                scaled = b.add(scaled, arrays[4][at])
        n = b.tanh(b.add(scaled, p["n"]))
        return self._stored(ev, b.add(b.multiply(z, b.subtract(h, n)), n))

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return those of every recurrent layer, and the reset before the product."""
        plain = _Recurrent.examples.__func__(cls)  # type: ignore[attr-defined]
        first = plain[0]
        before = Example(cls("zrn", reset_after=False), first.types, first.ranges)
        return (*plain, before)
