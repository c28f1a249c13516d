"""ATen operators of recurrent layers, and products of grouped rows (mixtures of experts)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emuron.compiler.frontends.torch_call import Call, aten
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError

Direction = Callable[[Value, Sequence[Value], list[Value], bool], tuple[Value, list[Value]]]
"""Runs one direction of one layer: x, its weights, its first states and whether it is reversed, to
all outputs and the last states."""


def _layers(
    c: Call,
    x: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    biased: bool,
    shape: tuple[int, bool, bool],
    run: Direction,
) -> list[Value]:
    """Return the outputs and last states of stacked layers.

    `shape` is their number, whether each reads both ways and whether the batch comes first.
    """
    count, both, batch_first = shape
    each = 4 if biased else 2
    directions = 2 if both else 1
    if len(weights) != each * directions * count:
        raise UnsupportedOpError("a recurrent layer with a projection of its outputs")
    x = c.b.permute(x, 1, 0, 2) if batch_first else x
    last: list[list[Value]] = [[] for _ in states]
    for layer in range(count):
        outputs = []
        for direction in range(directions):
            i = layer * directions + direction
            begun = [c.b.reshape(c.b.slice(s, 0, i, i + 1), *s.shape[1:]) for s in states]
            y, ended = run(x, weights[i * each : (i + 1) * each], begun, direction == 1)
            outputs.append(y)
            for kept, state in zip(last, ended, strict=True):
                kept.append(c.b.reshape(state, 1, *state.shape))
        x = outputs[0] if len(outputs) == 1 else c.b.concat(outputs, 2)
    ends = [parts[0] if len(parts) == 1 else c.b.concat(parts, 0) for parts in last]
    return [c.b.permute(x, 1, 0, 2) if batch_first else x, *ends]


@aten("lstm.input")
def _lstm(
    c: Call,
    x: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    biased: bool,
    layers: int,
    dropout: float,
    train: bool,
    both: bool,
    batch_first: bool,
) -> list[Value]:
    def run(
        x: Value, weights: Sequence[Value], begun: list[Value], reverse: bool
    ) -> tuple[Value, list[Value]]:
        y, h, cell = c.b.lstm(x, weights, (begun[0], begun[1]), gates="ifgo", reverse=reverse)
        return y, [h, cell]

    return _layers(c, x, states, weights, biased, (layers, both, batch_first), run)


@aten("gru.input")
def _gru(
    c: Call,
    x: Value,
    state: Value,
    weights: Sequence[Value],
    biased: bool,
    layers: int,
    dropout: float,
    train: bool,
    both: bool,
    batch_first: bool,
) -> list[Value]:
    def run(
        x: Value, weights: Sequence[Value], begun: list[Value], reverse: bool
    ) -> tuple[Value, list[Value]]:
        y, h = c.b.gru(x, weights, begun[0], gates="rzn", reverse=reverse)
        return y, [h]

    return _layers(c, x, [state], weights, biased, (layers, both, batch_first), run)


@aten("transformers.grouped_mm_fallback.default", "_grouped_mm.default")
def _grouped(
    c: Call, x: Value, weight: Value, offs: Value | None = None, bias: Value | None = None
) -> Value:
    if offs is None or bias is not None or x.type.rank != 2 or weight.type.rank != 3:
        raise UnsupportedOpError("grouped_mm is built for rows [T, K] by weights [E, K, N]")
    return c.b.grouped_matmul(x, weight, c.b.cast(offs, "int32"))
