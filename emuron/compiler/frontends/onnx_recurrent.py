"""ONNX's recurrent layers: one direction at a time, kept whole where nothing is unusual."""

from __future__ import annotations

from collections.abc import Sequence

from emuron.compiler.frontends.onnx_call import Call, NotWholeError, onnx_op
from emuron.compiler.frontends.onnx_flow import check_trips
from emuron.compiler.graph import Value

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_USUAL = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_SEQUENCE_LENGTHS, _INITIAL_H, _INITIAL_C, _PEEPHOLES = 4, 5, 6, 7


@onnx_op("LSTM", "GRU", "RNN")
def _recurrent(c: Call) -> list[Value]:
    _check_usual(c)
    x, batch_first = c.x(0), bool(c.attribute("layout", 0))
    x = c.b.permute(x, 1, 0, 2) if batch_first else x
    direction = c.attribute("direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    ways = [_direction(c, x, i, i == 1 or direction == "reverse") for i in range(count)]
    results = []
    for number, states in enumerate(zip(*ways, strict=True)):
        # y is [steps, directions, batch, features], the last states [directions, batch, features].
        axis = 1 if number == 0 else 0
        spread = [_with(c, state, axis) for state in states]
        joined = spread[0] if count == 1 else c.b.concat(spread, axis)
        if batch_first:
            joined = c.b.permute(joined, *((2, 0, 1, 3) if number == 0 else (1, 0, 2)))
        results.append(joined)
    return results


def _check_usual(c: Call) -> None:
    given = [name.lower() for name in c.attribute("activations") or ()]
    each = len(_USUAL[c.kind])
    ways = [tuple(given[i : i + each]) for i in range(0, len(given), each)]
    if any(way != _USUAL[c.kind] for way in ways):
        raise NotWholeError(f"{c.kind} with the activations {given}")
    if c.has(_PEEPHOLES) and c.kind == "LSTM":
        raise NotWholeError("LSTM with peepholes")
    if c.attribute("clip") or c.attribute("input_forget", 0):
        raise NotWholeError(f"{c.kind} with clipped or coupled gates")
    steps = c.operand(0).shape[1 if c.attribute("layout", 0) else 0]
    if c.has(_SEQUENCE_LENGTHS) and any(n != steps for n in c.ints(_SEQUENCE_LENGTHS)):
        raise NotWholeError(f"{c.kind} of sequences of several lengths")


def _with(c: Call, x: Value, axis: int) -> Value:
    return c.b.reshape(x, *x.shape[:axis], 1, *x.shape[axis:])


def _part(c: Call, x: Value, direction: int) -> Value:
    """Return one direction of a state [directions, ...]."""
    one = x if x.shape[0] == 1 else c.b.slice(x, 0, direction, direction + 1)
    return c.b.reshape(one, *x.shape[1:])


def _weight(c: Call, index: int, direction: int, half: int | None = None) -> Value:
    """Return one direction of a weight [directions, rows, ...], or one half of its rows."""
    operand = c.operand(index)
    rows = operand.shape[1]
    start, stop = (0, rows) if half is None else (half * rows // 2, (half + 1) * rows // 2)
    if operand.is_weight:
        return c.store.part(operand, direction, start, stop)
    whole = _part(c, c.x(index), direction)
    return whole if half is None else c.b.slice(whole, 0, start, stop)


def _direction(c: Call, x: Value, direction: int, backwards: bool) -> Sequence[Value]:
    weights = [_weight(c, i, direction) for i in (1, 2)]
    if c.has(3):
        weights += [_weight(c, 3, direction, half) for half in (0, 1)]
    states = [_state(c, i, direction) for i in (_INITIAL_H, _INITIAL_C) if c.has(i)]
    if c.kind == "GRU":
        after = bool(c.attribute("linear_before_reset", 0))
        state = states[0] if states else None
        return c.b.gru(x, weights, state, gates="zrn", reverse=backwards, reset_after=after)
    if c.kind == "LSTM":
        begun = _both(c, states, weights[1].shape[1], x) if states else None
        return c.b.lstm(x, weights, begun, gates="iofg", reverse=backwards)
    return _simple(c, x, weights, states[0] if states else None, backwards)


def _both(c: Call, states: list[Value], hidden: int, x: Value) -> tuple[Value, Value]:
    """Return h and c before the first step; one that is not given is 0."""
    zero = c.b.full(0, (x.shape[1], hidden), x.type.dtype)
    if len(states) == 2:
        return states[0], states[1]
    return (states[0], zero) if c.has(_INITIAL_H) else (zero, states[0])


def _state(c: Call, index: int, direction: int) -> Value:
    x = c.x(index)
    x = c.b.permute(x, 1, 0, 2) if c.attribute("layout", 0) else x
    return _part(c, x, direction)


def _simple(
    c: Call, x: Value, weights: Sequence[Value], state: Value | None, backwards: bool
) -> Sequence[Value]:
    """Return h = tanh(x weight_ih + h weight_hh + biases) step by step: all, and the last."""
    steps, batch, _ = x.shape
    check_trips(c, steps)
    inputs = c.b.matmul(x, _spread(c, weights[0], steps))
    for bias in weights[2:]:
        inputs = c.b.add(inputs, bias)
    hidden = weights[1].shape[1]
    h = c.b.full(0, (batch, hidden), x.type.dtype) if state is None else state
    recurrent = c.b.permute(weights[1], 1, 0)
    found: dict[int, Value] = {}
    for step in reversed(range(steps)) if backwards else range(steps):
        here = c.b.reshape(c.b.slice(inputs, 0, step, step + 1), batch, hidden)
        h = c.b.tanh(c.b.add(here, c.b.matmul(h, recurrent)))
        found[step] = _with(c, h, 0)
    return c.b.concat([found[step] for step in range(steps)], 0), h


def _spread(c: Call, weight: Value, steps: int) -> Value:
    turned = c.b.permute(weight, 1, 0)
    return c.b.broadcast(turned, (steps, *turned.shape))
