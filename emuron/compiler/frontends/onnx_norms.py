"""ONNX operators that normalise."""

from __future__ import annotations

from math import prod

from emuron.compiler.frontends.onnx_call import Call, NotWholeError, onnx_op
from emuron.compiler.graph import Value


@onnx_op("LayerNormalization", "RMSNormalization")
def _over_last(c: Call) -> Value:
    if c.wants(1) or c.wants(2):
        raise NotWholeError(f"{c.kind} gives no moments here")
    x = c.x(0)
    axis = c.axis(c.attribute("axis", -1), x.type.rank)
    size, epsilon = prod(x.shape[axis:]), c.attribute("epsilon", 1e-5)
    rows = c.b.reshape(x, *x.shape[:axis], size)
    given = (c.maybe(1), c.maybe(2))
    weight, bias = (
        None if v is None else c.b.reshape(c.b.broadcast(v, x.shape[axis:]), size) for v in given
    )
    if c.kind == "RMSNormalization":
        y = c.b.rms_norm(rows, weight, epsilon=epsilon)
    else:
        y = c.b.layer_norm(rows, weight, bias, epsilon=epsilon)
    return c.b.reshape(y, *x.shape)


@onnx_op("BatchNormalization")
def _batch_norm(c: Call) -> Value:
    if c.attribute("training_mode", 0) or c.wants(1):
        raise NotWholeError("BatchNormalization in training is not compiled; export it for eval")
    x = c.x(0)
    weight, bias, mean, variance = (c.b.cast(c.x(i), x.type.dtype) for i in range(1, 5))
    epsilon = c.attribute("epsilon", 1e-5)
    return c.b.batch_norm(x, weight, bias, mean, variance, epsilon=epsilon)


@onnx_op("InstanceNormalization")
def _instance_norm(c: Call) -> Value:
    x, epsilon = c.x(0), c.attribute("epsilon", 1e-5)
    return c.b.group_norm(x, c.x(1), c.x(2), groups=x.shape[1], epsilon=epsilon)


@onnx_op("GroupNormalization")
def _group_norm(c: Call) -> Value:
    x, groups = c.x(0), c.required("num_groups")
    weight, bias = c.x(1), c.x(2)
    # Operator set 18 had one weight for each group.
    if weight.shape[0] == groups != x.shape[1]:
        weight, bias = (
            c.b.reshape(c.b.broadcast(c.b.reshape(v, groups, 1), (groups, each)), x.shape[1])
            for v, each in ((weight, x.shape[1] // groups), (bias, x.shape[1] // groups))
        )
    return c.b.group_norm(x, weight, bias, groups=groups, epsilon=c.attribute("epsilon", 1e-5))


@onnx_op("LpNormalization")
def _lp_norm(c: Call) -> Value:
    x, p = c.x(), c.attribute("p", 2)
    axis = c.axis(c.attribute("axis", -1), x.type.rank)
    powers = c.b.apply("abs", x) if p == 1 else c.b.mul(x, x)
    total = c.b.reduce("sum", powers, (axis,), keepdims=True)
    norm = total if p == 1 else c.b.apply("sqrt", total)
    safe = c.b.select(c.b.compare("eq", norm, 0), 1, norm)
    return c.b.div(x, safe)
