"""How the functional simulator carries out one form: gather, widen, compute, round, scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from emuron.errors import OutOfBoundsError, UninitializedReadError
from emuron.isa.alu import alu_operator
from emuron.isa.dma import DmaCompute, DmaCopy, DmaTranspose
from emuron.isa.gathered import is_gathered
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form, Instruction
from emuron.isa.meetings import Meeting
from emuron.isa.microscaling import NcMatmulMx
from emuron.isa.reductions import UNDEFINED_AFTER_IDLE
from emuron.isa.tensor import AccessPattern, Indirection
from emuron.isa.tensor_engine import NcMatmul
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import DType, dtype
from emuron.numerics.generators import initial_state
from emuron.sim.access import Access
from emuron.sim.bands import BandedAccess
from emuron.sim.gather import gather_plan
from emuron.sim.indirect import row_indirect_plan
from emuron.sim.machine import Machine, Storage
from emuron.sim.matmul_plan import matmul_plan
from emuron.sim.meetings import meeting_plan
from emuron.sim.reads import Operand, conversion, gather_function
from emuron.sim.sequences import FIXED, fixed_step
from emuron.sim.stores import Step, Store, scatter, store_function


def plan(form: Form, machine: Machine) -> Step:
    """Return the prepared execution of a form on a machine."""
    example = form.example
    if any(is_gathered(getattr(example, name)) for name, _ in example.operands):
        return gather_plan(form, machine, plan)
    if isinstance(example, (DmaCopy, DmaTranspose, DmaCompute)) and _has_rows(example):
        return row_indirect_plan(form, machine)
    if isinstance(example, Meeting):
        step = meeting_plan(form, machine)
    elif isinstance(example, NcMatmul | NcMatmulMx):
        step = matmul_plan(form, machine)
    else:
        step = _general_plan(form, machine)
    shifts = _shifts(form, machine)
    if not shifts:
        return step

    def shifted(storages: list[Storage], offsets: list[int]) -> None:
        moved = offsets.copy()
        for k, access, rule, name in shifts:
            index = int(_read(access, storages[k + 1], offsets[k + 1]).reshape(-1)[0])
            if not 0 <= index < rule.limit:
                raise OutOfBoundsError(
                    f"{example.mnemonic}: the index of {name} is {index}; "
                    f"legal indices are 0 to {rule.limit - 1}. "
                    "Correct the index, or use oob_mode.skip where the instruction has it."
                )
            moved[k] += index * rule.stride
            if machine.on_address is not None:
                machine.on_address(storages[k].tensor, moved[k])
        step(storages, moved)

    return shifted


def _has_rows(example: Instruction) -> bool:
    """Return whether a transfer chooses rows one by one: by index, or dropping those outside."""
    patterns = (getattr(example, name) for name, _ in example.operands)
    rules = [p.indirection for p in patterns if isinstance(p, AccessPattern)]
    skip = getattr(example, "oob_mode", "error") == "skip"
    return any(rule is not None and (skip or rule.kind == "vector") for rule in rules)


def _shifts(form: Form, machine: Machine) -> list[tuple[int, Access, Indirection, str]]:
    """Return the operands that one run-time value shifts: position, index access, rule, name."""
    found = []
    for k, (name, _) in enumerate(form.operand_fields):
        if name.endswith(".index"):
            continue
        rule = getattr(form.example, name).indirection
        if rule is not None:
            access = Access(form.mnemonic, f"{name}.index", rule.index, machine.ops)
            found.append((k, access, rule, name))
    return found


def _read(access: Access, storage: Storage, offset: int) -> Any:
    """Return a view for reading, every element of which has been written."""
    view = access.view(storage, offset)
    if storage.memory.unwritten:
        access.require_written(storage, offset)
    return view


def stored_dtype(example: Instruction, operand: AccessPattern) -> DType | None:
    """Return the integer type under which an operation on raw bits sees an operand.

    Bit-vector operators see unsigned integers (their right shift is logical); integer arithmetic
    sees signed ones, which wrap alike. None leaves the operand's own type.
    """
    op = getattr(example, "op", None) or getattr(example, "op0", None)
    if not example.raw or op is None:
        return None
    sign = "uint" if alu_operator(str(op)).is_bit_vector else "int"
    return dtype(f"{sign}{8 * operand.dtype.itemsize}")


def _constant(backend: Backend, value: Any, example: Instruction) -> Any:
    """Return an immediate as `compute` gets it: a float, or the bits of an integer type."""
    if value is None or not example.raw:
        return value
    like = _first_pattern(example)
    bits = int(value) & ((1 << (8 * like.dtype.itemsize)) - 1)
    unsigned = np.array([[bits]], np.dtype(f"uint{8 * like.dtype.itemsize}"))
    return backend.asarray(unsigned)


def _general_plan(form: Form, machine: Machine) -> Step:
    example, backend = form.example, machine.ops
    raw = example.raw
    template: list[Any] = []
    reads: list[Operand] = []
    writes: list[tuple[int, int, Access, Store]] = []
    position = {name: k for k, (name, _) in enumerate(form.operand_fields)}
    output = 0
    for name, kind in example.operands:
        operand = getattr(example, name)
        bits = raw or name in example.stored
        access = _access(form, name, machine) if isinstance(operand, AccessPattern) else None
        if kind in READ_KINDS:
            if access is None or name in example.unread:
                absent = None if name in example.unread else operand
                template.append(_constant(backend, absent, example))
            else:
                slot = len(template)
                reads.append(
                    (slot, position[name], access, conversion(machine, access, bits, slot))
                )
                template.append(None)
        if kind in WRITE_KINDS:
            if access is not None:
                store = store_function(machine, access.dtype, bits)
                writes.append((output, position[name], access, store))
            output += 1
    state = _register_access(example, machine) or _generator_access(example, machine)
    several = output > 1 or state is not None
    step = _general_step(machine, example, template, reads, writes, several, state)
    return _spoiling(step, example, machine)


def _access(form: Form, name: str, machine: Machine) -> Access:
    example = form.example
    operand: AccessPattern = getattr(example, name)
    bits, band = stored_dtype(example, operand), example.band(name)
    if band is None:
        return Access(form.mnemonic, name, operand, machine.ops, bits)
    return BandedAccess(form.mnemonic, name, operand, machine.ops, bits, band)


def _first_pattern(example: Instruction) -> AccessPattern:
    for name, _ in example.operands:
        operand = getattr(example, name)
        if isinstance(operand, AccessPattern):
            return operand
    raise AssertionError("an instruction has at least one operand")


def _general_step(
    machine: Machine,
    example: Instruction,
    template: list[Any],
    reads: list[Operand],
    writes: list[tuple[int, int, Access, Store]],
    several: bool,
    register: Register | Generator | None,
) -> Step:
    backend, compute = machine.ops, example.compute
    gather = gather_function(template, reads, register)
    if backend.name == "numpy" and example.mnemonic in FIXED:
        return fixed_step(machine, example, gather, writes, several, register)

    def step(storages: list[Storage], offsets: list[int]) -> None:
        args = gather(storages, offsets)
        results = compute(backend, *args)
        if register is not None:
            register.replace(results[-1])
        for output, k, access, store in writes:
            value = results[output] if several else results
            scatter(backend, access, store, storages[k], offsets[k], value)

    return step


class Register:
    """The accumulator registers that one form works on: those of its first output's partitions."""

    def __init__(self, machine: Machine, engine: str, mnemonic: str, like: AccessPattern) -> None:
        self.machine = machine
        self.engine = engine
        self.mnemonic = mnemonic
        self.rows = slice(like.start_partition, like.start_partition + like.partitions)
        self.needed = False

    def content(self) -> Any:
        """Return the content, fp32 [P, 1], None if it is not needed; raise if it is undefined."""
        if not self.needed:
            return None
        values, defined = self.machine.registers(self.engine)
        if not defined[self.rows].all():
            raise UninitializedReadError(
                f"{self.mnemonic} adds to the accumulator registers of the {self.engine} "
                "engine, which nothing has set. Start with reduce_cmd.reset_reduce or reset."
            )
        # A copy: the register may change before the value is written.
        return values[self.rows] + 0.0

    def replace(self, content: Any) -> None:
        """Set the content; None leaves it undefined."""
        values, defined = self.machine.registers(self.engine)
        if content is None:
            return
        values[self.rows] = content
        defined[self.rows] = True


def _spoiling(step: Step, example: Instruction, machine: Machine) -> Step:
    """Return the step; where it may change registers unasked, they are undefined after it."""
    if example.mnemonic not in UNDEFINED_AFTER_IDLE or example.accumulator is not None:
        return step
    like = _first_pattern(example)
    rows = slice(like.start_partition, like.start_partition + like.partitions)

    def spoiled(storages: list[Storage], offsets: list[int]) -> None:
        step(storages, offsets)
        machine.registers("vector")[1][rows] = False

    return spoiled


def _register_access(example: Instruction, machine: Machine) -> Register | None:
    if example.accumulator is None:
        return None
    like = _first_pattern(example)
    register = Register(machine, example.accumulator, example.mnemonic, like)
    register.needed = getattr(example, "reduce_cmd", "reset_reduce") in ("reduce", "idle")
    return register


class Generator:
    """The random number generator of one engine: the state of all its lanes."""

    def __init__(self, machine: Machine, engine: str) -> None:
        self.machine = machine
        self.engine = engine

    def content(self) -> Any:
        """Return the state, uint32 [lanes, words]."""
        return self.machine.generators[self.engine]

    def replace(self, content: Any) -> None:
        """Set the state."""
        self.machine.generators[self.engine] = content


def _generator_access(example: Instruction, machine: Machine) -> Generator | None:
    if example.generator is None:
        return None
    if example.generator not in machine.generators:
        words = machine.core.limits.generator_words(example.generator)
        state = initial_state(machine.policy.seed, machine.core.partitions, words)
        machine.generators[example.generator] = state
    return Generator(machine, example.generator)
