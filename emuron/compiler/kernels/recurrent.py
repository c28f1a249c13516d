"""Recurrent layers step by step: a product of the state, then gates on rows of the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emuron.compiler.kernels import linear, movement
from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.linear import Epilogue, LinearPacking
from emuron.compiler.kernels.view import LogicalView
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32

MOST_BATCH = 128
"""Rows of the batch that the kernel takes: one for each partition."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Weights, packed as linear layers read them, and biases of a layer with gates in order."""

    x: Placed
    weights: tuple[Placed, Placed]
    biases: tuple[Placed | None, Placed | None]
    gates: str
    hidden: int
    order: Iterable[int]
    state_dtype: DType


def _product(
    k: KernelContext, layer: Layer, which: int, rows: Placed, out: Placed, added: Placed | None
) -> None:
    """Write rows·weight + bias + added."""
    weight = layer.weights[which]
    outputs = len(layer.gates) * layer.hidden
    packing = LinearPacking(outputs, rows.shape[-1], weight.dtype.itemsize)
    linear.linear(k, rows, weight, packing, out, Epilogue(layer.biases[which], added))


def _inputs(k: KernelContext, layer: Layer) -> Placed:
    """Return x·weight_ih + bias_ih of all steps in HBM, [S, B, G·H] float32."""
    steps, batch, _ = layer.x.shape
    shape = (steps, batch, len(layer.gates) * layer.hidden)
    made = k.hbm(shape, float32, "inputs", "temporary")
    _product(k, layer, 0, layer.x, made, None)
    return made


def _step(value: Placed, index: int) -> Placed:
    """Return [B, columns] of one step of [S, B, columns]."""
    view = value.view.slice(0, index, 1)
    assert view is not None
    return value.seen_as(LogicalView(view.dims[1:], view.offset))


def _state(k: KernelContext, layer: Layer, begun: Placed | None, dtype: DType) -> Placed:
    made = k.on_chip(layer.x.shape[1], layer.hidden, dtype, "state")
    if begun is None:
        nisa.memset(made.storage, 0.0)
    else:
        movement.move(k, begun, made)
    return made


def _tile(value: Placed) -> NkiTensor:
    """Return a value of one block of rows as a matrix."""
    return value.storage[:, 0]


def _gate(layer: Layer, tile: NkiTensor, name: str) -> NkiTensor:
    place = layer.gates.index(name) * layer.hidden
    return tile[:, place : place + layer.hidden]


def lstm(
    k: KernelContext,
    layer: Layer,
    begun: tuple[Placed | None, Placed | None],
    outputs: tuple[Placed, Placed, Placed],
) -> None:
    """Write all h, the last h and the last c; see the operator `lstm`."""
    batch, hidden = layer.x.shape[1], layer.hidden
    inputs = _inputs(k, layer)
    h = _state(k, layer, begun[0], layer.state_dtype)
    c = _tile(_state(k, layer, begun[1], float32))
    for index in layer.order:
        sums = k.on_chip(batch, 4 * hidden, float32, "gates")
        _product(k, layer, 1, h, sums, _step(inputs, index))
        gates = {name: k.sbuf((batch, hidden), float32, name) for name in "ifog"}
        for name, gate in gates.items():
            function = "tanh" if name == "g" else "sigmoid"
            nisa.activation(gate, function, _gate(layer, _tile(sums), name))
        kept, fresh, new = (k.sbuf((batch, hidden), float32, "cell") for _ in range(3))
        nisa.tensor_tensor(kept, gates["f"], c, "multiply")
        nisa.tensor_tensor(fresh, gates["i"], gates["g"], "multiply")
        nisa.tensor_tensor(new, kept, fresh, "add")
        c = new
        bent = k.sbuf((batch, hidden), float32, "bent")
        nisa.activation(bent, "tanh", c)
        h = k.on_chip(batch, hidden, layer.state_dtype, "state")
        nisa.tensor_tensor(_tile(h), gates["o"], bent, "multiply")
        movement.move(k, h, _step(outputs[0], index))
    movement.move(k, h, outputs[1])
    last = k.on_chip(batch, hidden, outputs[2].dtype, "last")
    nisa.tensor_copy(_tile(last), c, engine="vector")
    movement.move(k, last, outputs[2])


def gru(
    k: KernelContext, layer: Layer, begun: Placed | None, outputs: tuple[Placed, Placed]
) -> None:
    """Write all h and the last h; the reset gate follows the product (see the operator `gru`)."""
    batch, hidden = layer.x.shape[1], layer.hidden
    inputs = _inputs(k, layer)
    h = _state(k, layer, begun, layer.state_dtype)
    for index in layer.order:
        sums = k.on_chip(batch, 3 * hidden, float32, "gates")
        _product(k, layer, 1, h, sums, None)
        given = k.read(_step(inputs, index), (0, batch), (0, 3 * hidden))
        made = {name: k.sbuf((batch, hidden), float32, name) for name in "rzn"}
        for name in "rz":
            parts = [_gate(layer, tile, name) for tile in (_tile(sums), given)]
            nisa.tensor_tensor(made[name], *parts, "add")
            nisa.activation(made[name], "sigmoid", made[name])
        new = made["n"]
        nisa.tensor_tensor(new, made["r"], _gate(layer, _tile(sums), "n"), "multiply")
        nisa.tensor_tensor(new, new, _gate(layer, given, "n"), "add")
        nisa.activation(new, "tanh", new)
        away = k.sbuf((batch, hidden), float32, "away")
        nisa.tensor_tensor(away, _tile(h), new, "subtract")
        nisa.tensor_tensor(away, made["z"], away, "multiply")
        h = k.on_chip(batch, hidden, layer.state_dtype, "state")
        nisa.tensor_tensor(_tile(h), away, new, "add")
        movement.move(k, h, _step(outputs[0], index))
    movement.move(k, h, outputs[1])
