"""How the functional simulator carries out one form: gather, widen, compute, round, scatter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emuron.errors import OutOfBoundsError, UninitializedReadError
from emuron.isa.alu import alu_operator
from emuron.isa.dma import DmaCompute, DmaCopy, DmaTranspose
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form, Instruction
from emuron.isa.tensor import AccessPattern, Indirection
from emuron.isa.tensor_engine import NcMatmul
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import DType, dtype, float32
from emuron.sim.access import Access
from emuron.sim.indirect import row_indirect_plan
from emuron.sim.machine import Machine, Storage

Step = Callable[[list[Storage], list[int]], None]
Store = Callable[[Any, Any], None]

_DIRECT_CASTS = ("bfloat16", "float16")  # NumPy's own casts round to nearest even


def plan(form: Form, machine: Machine) -> Step:
    """Return the prepared execution of a form on a machine."""
    example = form.example
    if isinstance(example, (DmaCopy, DmaTranspose, DmaCompute)) and _has_rows(example):
        return row_indirect_plan(form, machine, store_function)
    if isinstance(example, NcMatmul):
        step = _matmul_plan(form, machine)
    else:
        step = _general_plan(form, machine)
    shifts = _shifts(form, machine)
    if not shifts:
        return step
    skip = getattr(example, "oob_mode", "error") == "skip"

    def shifted(storages: list[Storage], offsets: list[int]) -> None:
        moved = offsets.copy()
        for k, access, rule, name in shifts:
            index = int(_read(access, storages[k + 1], offsets[k + 1]).reshape(-1)[0])
            if not 0 <= index < rule.limit:
                if skip:
                    return
                raise OutOfBoundsError(
                    f"{example.mnemonic}: the index of {name} is {index}; "
                    f"legal indices are 0 to {rule.limit - 1}. "
                    "Correct the index, or use oob_mode.skip where the instruction has it."
                )
            moved[k] += index * rule.stride
        step(storages, moved)

    return shifted


def _has_rows(example: Instruction) -> bool:
    patterns = (getattr(example, name) for name, _ in example.operands)
    return any(
        isinstance(p, AccessPattern)
        and p.indirection is not None
        and p.indirection.kind == "vector"
        for p in patterns
    )


def _shifts(form: Form, machine: Machine) -> list[tuple[int, Access, Indirection, str]]:
    """Return the operands that one run-time value shifts: position, index access, rule, name."""
    found = []
    for k, (name, _) in enumerate(form.operand_fields):
        if name.endswith(".index"):
            continue
        rule = getattr(form.example, name).indirection
        if rule is not None:
            access = Access(form.mnemonic, f"{name}.index", rule.index, machine.backend)
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


def store_function(machine: Machine, target: DType, raw: bool) -> Store:
    """Return how a value is rounded and written into a view of dtype `target`."""
    backend, policy = machine.backend, machine.policy
    if raw or target == float32:
        return backend.copyto
    if backend.name == "numpy" and policy.rounding == "rne" and target in _DIRECT_CASTS:

        def cast(view: Any, value: Any) -> None:
            np.copyto(view, value, casting="unsafe")

        return cast
    if policy.rounding == "rne" or not target.is_float:
        return lambda view, value: backend.copyto(view, backend.round_to(value, target, policy))

    def stochastic(view: Any, value: Any) -> None:
        counter = machine.next_counter()
        backend.copyto(view, backend.round_to(value, target, policy, counter))

    return stochastic


def _constant(backend: Backend, value: Any, raw: bool, like: AccessPattern) -> Any:
    """Return an immediate as `compute` gets it: a float, or the bits of an integer type."""
    if value is None or not raw:
        return value
    bits = int(value) & ((1 << (8 * like.dtype.itemsize)) - 1)
    unsigned = np.array([[bits]], np.dtype(f"uint{8 * like.dtype.itemsize}"))
    return backend.asarray(unsigned)


def _general_plan(form: Form, machine: Machine) -> Step:
    example, backend = form.example, machine.backend
    raw = example.raw
    template: list[Any] = []
    reads: list[tuple[int, int, Access, DType | None, bool]] = []
    writes: list[tuple[int, int, Access, Store]] = []
    position = {name: k for k, (name, _) in enumerate(form.operand_fields)}
    output = 0
    for name, kind in example.operands:
        operand = getattr(example, name)
        access = None
        if isinstance(operand, AccessPattern):
            bits = stored_dtype(example, operand)
            access = Access(form.mnemonic, name, operand, backend, bits)
        if kind in READ_KINDS:
            if access is None or name in example.unread:
                absent = None if name in example.unread else operand
                template.append(_constant(backend, absent, raw, _first_pattern(example)))
            else:
                wide = None if raw or access.dtype == float32 else access.dtype
                reads.append(
                    (len(template), position[name], access, wide, access.shape != access.flat)
                )
                template.append(None)
        if kind in WRITE_KINDS:
            if access is not None:
                store = store_function(machine, access.dtype, raw)
                writes.append((output, position[name], access, store))
            output += 1
    several = output > 1 or example.accumulator is not None
    register = _register_access(example, machine)
    return _general_step(machine, example, template, reads, writes, several, register)


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
    reads: list[tuple[int, int, Access, DType | None, bool]],
    writes: list[tuple[int, int, Access, Store]],
    several: bool,
    register: Register | None,
) -> Step:
    backend, compute = machine.backend, example.compute
    widen, reshape = backend.widen, backend.reshape

    def step(storages: list[Storage], offsets: list[int]) -> None:
        args = template.copy()
        for slot, k, access, wide, fold in reads:
            x = access.view(storages[k], offsets[k])
            if storages[k].memory.unwritten:
                access.require_written(storages[k], offsets[k])
            if wide is not None:
                x = widen(x, wide)
            args[slot] = reshape(x, access.flat) if fold else x
        if register is not None:
            args.append(register.content())
        results = compute(backend, *args)
        if register is not None:
            register.replace(results[-1])
        for output, k, access, store in writes:
            value = results[output] if several else results
            _scatter(backend, access, store, storages[k], offsets[k], value)

    return step


def _scatter(
    backend: Backend, access: Access, store: Store, storage: Storage, offset: int, value: Any
) -> None:
    """Round and write a value (an array, or one number for all elements) into a view."""
    view = access.view(storage, offset)
    memory = storage.memory
    if memory.unwritten or not memory.writable:
        access.mark_written(storage, offset)
        view = access.view(storage, offset)
    if isinstance(value, (int, float)):
        backend.copyto(view, backend.full((1, 1), value, access.dtype))
        return
    if value.shape != access.shape:
        value = backend.reshape(value, access.shape)
    store(view, value)


class Register:
    """The accumulator registers that one form works on: those of its first output's partitions."""

    def __init__(self, machine: Machine, engine: str, mnemonic: str, like: AccessPattern) -> None:
        self.machine = machine
        self.engine = engine
        self.mnemonic = mnemonic
        self.rows = slice(like.start_partition, like.start_partition + like.partitions)
        self.needed = False

    def content(self) -> Any:
        """Return the content, fp32 [P, 1]; raise if it is needed and undefined."""
        values, defined = self.machine.registers(self.engine)
        if not defined[self.rows].all():
            if self.needed:
                raise UninitializedReadError(
                    f"{self.mnemonic} adds to the accumulator registers of the {self.engine} "
                    "engine, which nothing has set. Start with reduce_cmd.reset_reduce or reset."
                )
            return None
        # A copy: the register may change before the value is written.
        return values[self.rows] + 0.0

    def replace(self, content: Any) -> None:
        """Set the content; None leaves it undefined."""
        values, defined = self.machine.registers(self.engine)
        if content is None:
            return
        values[self.rows] = content
        defined[self.rows] = True


def _register_access(example: Instruction, machine: Machine) -> Register | None:
    if example.accumulator is None:
        return None
    like = _first_pattern(example)
    register = Register(machine, example.accumulator, example.mnemonic, like)
    register.needed = getattr(example, "reduce_cmd", "reset_reduce") in ("reduce", "idle")
    return register


def _matmul_plan(form: Form, machine: Machine) -> Step:
    """Prepare nc_matmul: the product goes into PSUM in place."""
    example, backend = form.example, machine.backend
    assert isinstance(example, NcMatmul)
    dst, stationary, moving = (
        Access(form.mnemonic, name, getattr(example, name), backend)
        for name in ("dst", "stationary", "moving")
    )
    multiply = _product(example, backend)
    store = store_function(machine, dst.dtype, False)
    wide = {a: None if a.dtype == float32 else a.dtype for a in (dst, stationary, moving)}
    asked = example.accumulate

    def gather(access: Access, storage: Storage, offset: int) -> Any:
        x = access.view(storage, offset)
        if storage.memory.unwritten:
            access.require_written(storage, offset)
        dtype_ = wide[access]
        if dtype_ is not None:
            x = backend.widen(x, dtype_)
        return x if access.shape == access.flat else backend.reshape(x, access.flat)

    def step(storages: list[Storage], offsets: list[int]) -> None:
        target, start = storages[0], offsets[0]
        product = multiply(
            gather(stationary, storages[1], offsets[1]), gather(moving, storages[2], offsets[2])
        )
        view = dst.view(target, start)
        if asked is True and target.memory.unwritten:
            dst.require_written(target, start)
        state = dst.matmul_state(target, start)
        add = state if asked is None else asked
        if target.memory.unwritten:
            dst.mark_written(target, start)
        if add is not False:
            product = _accumulated(backend, dst, view, product, add)
        if product.shape != dst.shape:
            product = backend.reshape(product, dst.shape)
        store(view, product)

    return step


def _accumulated(backend: Backend, dst: Access, view: Any, product: Any, add: Any) -> Any:
    """Return old content plus product, where `add` (True or a mask) says so."""
    old = backend.reshape(backend.widen(view, dst.dtype), product.shape)
    total = backend.add(old, product)
    if add is True:
        return total
    mask = backend.asarray(add.reshape(product.shape).astype(np.float32))
    return backend.where(mask, total, product)


def _product(example: NcMatmul, backend: Backend) -> Callable[[Any, Any], Any]:
    """Return the product of gathered operands.

    Where BLAS alone gives the bits that `numerics.matmul` defines (two rows or more, whole strips
    of columns, rows in order) it is called directly.
    """
    strip = 16  # numerics.matmul: columns past a multiple of 16 take another kernel
    direct = (
        backend.name == "numpy"
        and not example.double_row
        and example.columns >= 2
        and example.moving_columns % strip == 0
    )

    def multiply(stationary: Any, moving: Any) -> Any:
        return example.compute(backend, None, stationary, moving)

    if not direct:
        return multiply
    unit = np.dtype(np.float32).itemsize

    def product(stationary: Any, moving: Any) -> Any:
        if moving.strides[1] != unit or stationary.strides[1] != unit:
            return multiply(stationary, moving)
        return np.matmul(stationary.T, moving)

    return product
