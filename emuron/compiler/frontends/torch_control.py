"""Control flow of torch.export: branches, loops and scans of graphs within graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emuron.compiler.frontends.torch_call import Call, aten
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError


def _require_tensors(operands: Sequence[Any]) -> None:
    if not all(isinstance(v, Value) for v in operands):
        raise UnsupportedOpError("control flow over numbers that are no tensors")


@aten("cond")
def _cond(
    c: Call, which: Value, if_true: Any, if_false: Any, operands: Sequence[Value]
) -> tuple[Value, ...]:
    _require_tensors((which, *operands))
    inputs = [(i, v.type) for i, v in enumerate(operands)]
    branches = tuple(c.body(module, inputs, 0) for module in (if_false, if_true))
    return c.b.cond(which, branches, *operands)


@aten("while_loop")
def _while(
    c: Call, condition: Any, body: Any, carried: Sequence[Value], fixed: Sequence[Value]
) -> tuple[Value, ...]:
    operands = (*carried, *fixed)
    _require_tensors(operands)
    inputs = [(i, v.type) for i, v in enumerate(operands)]
    graphs = c.body(condition, inputs, 0), c.body(body, inputs, len(fixed))
    return c.b.while_loop(*graphs, *operands)[: len(carried)]


@aten("scan")
def _scan(
    c: Call,
    combine: Any,
    carried: Sequence[Value],
    stacked: Sequence[Value],
    fixed: Sequence[Value],
) -> tuple[Value, ...]:
    _require_tensors((*carried, *stacked, *fixed))
    if not stacked:
        raise UnsupportedOpError("a scan over nothing: how often it runs is not known")
    types = [v.type for v in carried]
    types += [v.type.with_shape(*v.shape[1:]) for v in stacked]
    types += [v.type for v in fixed]
    first = len(carried) + len(stacked)
    order = [*range(first, len(types)), *range(first)]
    body = c.body(combine, [(i, types[i]) for i in order], 0)
    return c.b.scan(body, stacked[0].shape[0], carried, stacked, fixed)
