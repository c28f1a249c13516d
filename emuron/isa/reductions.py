"""Reducing rows, and the accumulator registers that reductions of several instructions share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emuron.isa.alu import alu_operator
from emuron.isa.instruction import Instruction
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

REDUCTIONS = ("add", "multiply", "maximum", "minimum")
LOGICAL = ("logical_and", "logical_or", "logical_xor")
BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor")
REDUCE_COMMANDS = ("idle", "reset", "reduce", "reset_reduce", "load_reduce")

UNDEFINED_AFTER_IDLE = ("exponential", "select_reduce")
"""Vector instructions that may change the registers with reduce_cmd idle too (ISA32)."""


def reduce_rows(ops: Any, op: str, x: Any, axis: int) -> Any:
    """Return `x` reduced over its last axis `axis` with an ALU operator; the axis is dropped.

    Operators without a row reduction of the back end are associative and are folded in halves.
    """
    operator = alu_operator(op)
    if operator.reduction is not None:
        return getattr(ops, operator.reduction)(x, axis, False)
    while x.shape[axis] > 1:
        half = x.shape[axis] // 2
        folded = operator.compute(ops, x[..., :half], x[..., half : 2 * half])
        rest = x[..., 2 * half :]
        x = folded if rest.shape[axis] == 0 else ops.concatenate([folded, rest], axis)
    if op in LOGICAL:
        x = ops.compare("ne", x, 0.0)
    return x[..., 0]


def accumulate(
    ops: Any, command: str, reduction: str, values: Any, register: Any, initial: Any = None
) -> Any:
    """Return an accumulator register [P, 1] after a reduce command; None is undefined.

    `values` is [P, N]; `register` is the content before; `initial`, a number or [P, 1], is what
    load_reduce starts from.
    """
    if command == "idle":
        return register
    operator = alu_operator(reduction)
    if command == "reset":
        return operator.identity
    row = ops.reshape(reduce_rows(ops, reduction, values, 1), (values.shape[0], 1))
    if command == "reset_reduce":
        return row
    return operator.compute(ops, initial if command == "load_reduce" else register, row)


def check_initial(reduction: Instruction, initial: str) -> None:
    """Refuse load_reduce without anything to start from; `initial` names the operand."""
    command = getattr(reduction, "reduce_cmd", None)
    if command == "load_reduce" and getattr(reduction, initial) is None:
        raise reduction.refuse(f"reduce_cmd={command} without {initial}", f"Give {initial}.")


def read_out_cycles(core: NeuronCore, reduce_res: AccessPattern | None) -> int:
    """Return the cycles of reading the registers out, none where nobody asks for them."""
    return 0 if reduce_res is None else core.timing.accumulator_read_cycles
