"""TensorFlow's functions, variables, loops and lists."""

from __future__ import annotations

import numpy as np

from emuron.compiler.frontends.tensorflow_call import (
    Call,
    Operand,
    TensorList,
    Variable,
    tensorflow,
)
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError

MOST_TURNS = 4096
"""Turns of a loop, which is written out."""


@tensorflow("PartitionedCall", "StatefulPartitionedCall")
def _call(c: Call, *operands: Operand) -> list[Operand]:
    return c.invoke(c.function("f"), operands)


@tensorflow("VarHandleOp")
def _variable(c: Call) -> Variable:
    return Variable(c.name, c.np_dtype("dtype"), c.shape("shape"))


@tensorflow("VariableV2", "Variable")
def _held_variable(c: Call) -> Value:
    return c.read(Variable(c.name, c.np_dtype("dtype"), c.shape("shape")))


@tensorflow("ReadVariableOp")
def _read(c: Call, variable: Operand) -> Value:
    if not isinstance(variable, Variable):
        raise UnsupportedOpError("reads something that is no variable of the checkpoint")
    return c.read(variable)


@tensorflow("VarIsInitializedOp")
def _is_initialized(c: Call, variable: Operand) -> Operand:
    return np.asarray(True)


@tensorflow("If", "StatelessIf")
def _if(c: Call, condition: Operand, *operands: Operand) -> list[Operand]:
    taken = bool(c.array(condition, "condition").reshape(-1)[0])
    return c.invoke(c.function("then_branch" if taken else "else_branch"), operands)


@tensorflow("While", "StatelessWhile")
def _while(c: Call, *operands: Operand) -> list[Operand]:
    """Write out a loop whose number of turns follows from constants."""
    carried = list(operands)
    for _ in range(MOST_TURNS):
        (going,) = c.invoke(c.function("cond"), tuple(carried))
        if not bool(c.array(going, "number of turns").reshape(-1)[0]):
            return carried
        carried = c.invoke(c.function("body"), tuple(carried))
    raise UnsupportedOpError(f"a loop of more than {MOST_TURNS} turns is not written out")


# Lists of tensors


def _list(x: Operand) -> TensorList:
    if not isinstance(x, TensorList):
        raise UnsupportedOpError("takes a list of tensors that this graph makes")
    return x


@tensorflow("TensorListReserve", "EmptyTensorList")
def _reserve(c: Call, shape: Operand, count: Operand) -> TensorList:
    size = c.integer(count, "number of elements") if c.op == "TensorListReserve" else 0
    if not 0 <= size <= MOST_TURNS:
        raise UnsupportedOpError(f"a list of {size} tensors is not built")
    found = tuple(c.integers(shape, "shape"))
    return TensorList((None,) * size, None if min(found, default=0) < 0 else found)


@tensorflow("TensorListFromTensor")
def _from_tensor(c: Call, x: Operand, shape: Operand) -> TensorList:
    value = c.value(x)
    if value.shape[0] > MOST_TURNS:
        raise UnsupportedOpError(f"a list of {value.shape[0]} tensors is not built")
    rows = (c.b.slice(value, 0, i, i + 1) for i in range(value.shape[0]))
    return TensorList(tuple(c.b.reshape(r, *value.shape[1:]) for r in rows), value.shape[1:])


@tensorflow("TensorListGetItem")
def _get_item(c: Call, items: Operand, index: Operand, shape: Operand) -> Value:
    found, place = _list(items), c.integer(index, "place in the list")
    item = found.items[place] if 0 <= place < len(found.items) else None
    if item is None:
        raise UnsupportedOpError(f"reads element {place}, which is not set")
    return item


@tensorflow("TensorListSetItem")
def _set_item(c: Call, items: Operand, index: Operand, x: Operand) -> TensorList:
    found, place = list(_list(items).items), c.integer(index, "place in the list")
    if place < 0 or place >= MOST_TURNS:
        raise UnsupportedOpError(f"writes element {place} of a list")
    found += [None] * (place + 1 - len(found))
    found[place] = c.value(x)
    return TensorList(tuple(found), found[place].shape)  # type: ignore[union-attr]


@tensorflow("TensorListPushBack")
def _push_back(c: Call, items: Operand, x: Operand) -> TensorList:
    value = c.value(x)
    return TensorList((*_list(items).items, value), value.shape)


@tensorflow("TensorListLength")
def _length(c: Call, items: Operand) -> Operand:
    return np.asarray(len(_list(items).items), np.int32)


@tensorflow("TensorListStack")
def _stack(c: Call, items: Operand, shape: Operand) -> Value:
    found = _list(items)
    rows: list[Value] = []
    for place, item in enumerate(found.items):
        if item is None:
            raise UnsupportedOpError(f"stacks a list whose element {place} is not set")
        rows.append(c.b.reshape(item, 1, *item.shape))
    if not rows:
        raise UnsupportedOpError("stacks a list of no tensors")
    return c.b.concat(rows, 0)
