"""ONNX's control flow, unrolled: conditions and trip counts must be known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emuron.compiler.frontends.onnx_call import Call, UnknownDataError, onnx_op
from emuron.compiler.frontends.onnx_moves import sliced
from emuron.compiler.frontends.onnx_operand import Operand
from emuron.compiler.graph import Value
from emuron.errors import ModelFileError, UnsupportedOpError

MOST_TRIPS = 2048
"""Steps of a loop that are written out one after another."""


@onnx_op("If")
def _if(c: Call) -> list[Operand]:
    taken = bool(c.number(0, 0))
    return c.body(c.required("then_branch" if taken else "else_branch"), [])


@onnx_op("Loop")
def _loop(c: Call) -> list[Operand | Value]:
    body = c.required("body")
    trips = int(c.number(0, MOST_TRIPS + 1))
    condition = bool(c.number(1, 1))
    carried = [c.operand(i) for i in range(2, len(c.operands))]
    rows: list[list[Operand]] = []
    step = 0
    while condition and step < trips:
        check_trips(c, step + 1)
        bound = [_known(np.array(step, np.int64)), _known(np.array(True)), *carried]
        found = c.body(body, bound)
        condition = _truth(c, found[0])
        carried, row = found[1 : 1 + len(carried)], found[1 + len(carried) :]
        rows.append(row)
        step += 1
    stacked = len(body.output) - 1 - len(carried)
    return [*carried, *(_stacked(c, [row[i] for row in rows], 0) for i in range(stacked))]


def check_trips(c: Call, steps: int) -> None:
    """Raise UnsupportedOpError for more steps than are written out one after another."""
    if steps > MOST_TRIPS:
        raise UnsupportedOpError(f"{c.kind} of more than {MOST_TRIPS} steps, which it unrolls")


def _known(array: np.ndarray) -> Operand:
    return Operand.of_array("step", array)


def _truth(c: Call, condition: Operand) -> bool:
    data = condition.data
    if data is None:
        inputs = c.store.inputs_behind(condition)
        raise UnknownDataError(
            "Loop runs until a condition that is computed from the inputs "
            f"({', '.join(map(repr, inputs))}); the number of steps must be known when the model "
            "is compiled",
            inputs,
        )
    return bool(data)


def _stacked(c: Call, parts: Sequence[Operand], axis: int) -> Value:
    """Return what each step gives along a new dimension."""
    if not parts:
        raise UnsupportedOpError(f"{c.kind} of no steps, whose results have no known size")
    values = [c.store.value(part) for part in parts]
    shape = values[0].shape
    axis = c.axis(axis, len(shape) + 1)
    spread = [c.b.reshape(v, *shape[:axis], 1, *shape[axis:]) for v in values]
    return spread[0] if len(spread) == 1 else c.b.concat(spread, axis)


@onnx_op("Scan")
def _scan(c: Call) -> list[Operand | Value]:
    body, count = c.required("body"), c.required("num_scan_inputs")
    carried = [c.operand(i) for i in range(len(c.operands) - count)]
    read = [c.x(i) for i in range(len(carried), len(c.operands))]
    outputs = len(body.output) - len(carried)
    if not read or outputs < 0:
        raise ModelFileError("Scan reads nothing, or its body gives too little")
    axes = [
        c.axis(a, x.type.rank)
        for a, x in zip(c.attribute("scan_input_axes") or (0,) * count, read, strict=True)
    ]
    backwards = c.attribute("scan_input_directions") or (0,) * count
    steps = read[0].shape[axes[0]]
    check_trips(c, steps)
    rows: list[list[Operand]] = []
    for step in range(steps):
        places = [steps - 1 - step if b else step for b in backwards]
        parts = [_slice_of(c, x, a, p) for x, a, p in zip(read, axes, places, strict=True)]
        found = c.body(body, [*carried, *parts])
        carried = found[: len(carried)]
        rows.append(found[len(carried) :])
    return [*carried, *_collected(c, rows, outputs)]


def _slice_of(c: Call, x: Value, axis: int, place: int) -> Operand:
    part = sliced(c, x, axis, place, place + 1)
    shape = [n for i, n in enumerate(x.shape) if i != axis]
    return Operand.of_value("step", c.b.reshape(part, *shape))


def _collected(c: Call, rows: list[list[Operand]], outputs: int) -> list[Value]:
    axes = c.attribute("scan_output_axes") or (0,) * outputs
    backwards = c.attribute("scan_output_directions") or (0,) * outputs
    found = []
    for i in range(outputs):
        parts = [row[i] for row in rows]
        found.append(_stacked(c, parts[::-1] if backwards[i] else parts, axes[i]))
    return found
