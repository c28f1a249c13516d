"""Registers of the sequencers and the loops that they bound (`nki_api.md` §7.37 and §9).

A kernel that is recorded without data knows a register's value if the last thing moved into it was
a number, or if the arguments that decide it have data (`deduction`). `assume_registers` states it
where they do not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from emuron.errors import FrozenRegisterError, UsageError, WrongCallError
from emuron.isa.control import LoopBranch, RegisterLoad, RegisterMove, RegisterStore
from emuron.isa.tensor import AccessPattern, MemoryRegion
from emuron.nki.deduction import deduced
from emuron.nki.earlier_forms import use
from emuron.nki.recorder import Recorder, recorder
from emuron.nki.scheduling import NkiInstruction, issued, refuse_ordered
from emuron.numerics.dtypes import DType, float32, int32

_assumed: ContextVar[Mapping[str, int] | int | None] = ContextVar("assumed_registers", default=None)


class VirtualRegister(AccessPattern):
    """A 32-bit register: an address (`scalar_offset=`), a loop's bound or a condition.

    In arithmetic and comparisons it stands for its current value, as the counters of dynamic loops
    were ints before NKI 0.4. `while register:` goes on until the value is 0.
    """

    __slots__ = ("_frozen", "_known", "_place", "_turns", "kind")

    def __init__(self, active: Recorder, value: int | None, frozen: bool = False) -> None:
        """Make a register that holds `value` (default 0), without an instruction."""
        super().__init__(active.tensor((1, 1), int32, MemoryRegion.register))
        self.kind = int32  # of what it holds now
        self._frozen = frozen
        self._known: float | None = value or 0
        self._place = active.here()
        self._turns = 0
        active.constant(self.tensor, np.array([[value or 0]], np.int32))

    @property
    def value(self) -> int | float:
        """The value now; raise UsageError if only data could tell it and there is none."""
        contents = recorder().contents(self.now())
        if contents is not None:
            return contents.reshape(-1)[0].item()  # type: ignore[no-any-return]
        if self._known is None:
            self._known = self._found()
        return self._known

    def _assumed(self) -> int | None:
        """Return what is stated by `assume_registers`."""
        assumed = _assumed.get()
        if isinstance(assumed, Mapping):
            return assumed.get(self._place, assumed.get(self.tensor.name))
        return assumed

    def _found(self) -> int | float:
        """Return the value in a kernel recorded without data: stated, or worked out."""
        assumed = self._assumed()
        if assumed is not None:
            return assumed
        contents = deduced(recorder(), self.now())
        if contents is None:
            raise UsageError(
                f"The register loaded at {self._place} holds what the data decides, and the kernel "
                "is recorded without data. Run it with data, or state the value: "
                f'with emuron.nki.assume_registers({{"{self._place}": 4}}): …'
            )
        return contents.reshape(-1)[0].item()  # type: ignore[no-any-return]

    def now(self) -> AccessPattern:
        """Return the register as an operand of the dtype that it holds now."""
        return self.seen_as(self.kind)

    def seen_as(self, dtype: DType) -> AccessPattern:
        """Return the register's bits as another 32-bit dtype."""
        return AccessPattern(self.tensor, (1, 1), (1, 1), 0, dtype)

    def take(self, dtype: DType, known: float | None) -> AccessPattern:
        """Return the register as the destination of a value of `dtype`; note what is known of it.

        Raises FrozenRegisterError for the counter of a loop.
        """
        if self._frozen:
            raise FrozenRegisterError(
                "The register that counts a dynamic loop cannot be written. Move its value to "
                "another: nisa.register_move(nisa.register_alloc(), i)."
            )
        self.kind = dtype
        self._known = known
        self._place = recorder().here()
        return self.seen_as(dtype)

    def __bool__(self) -> bool:
        use("while register")
        return self._holds()

    def _holds(self) -> bool:
        """Branch on the value; return whether it is not 0."""
        _branch(recorder(), self)
        often = self._assumed() if self._known is None else None
        if recorder().executor is not None or often is None:
            return self.value != 0
        # What is assumed of a condition is how often it holds.
        self._turns = self._turns + 1 if self._turns < often else 0
        return self._turns > 0

    def __index__(self) -> int:
        return int(self._number())

    __int__ = __index__

    def __float__(self) -> float:
        return float(self._number())

    def _number(self) -> int | float:
        """Return the value for Python's arithmetic."""
        use("register arithmetic")
        return self.value

    def __neg__(self) -> int | float:
        return -self._number()

    def __repr__(self) -> str:
        return f"<register {self.tensor.name} of {self._place}>"

    __hash__ = object.__hash__


def _of_value(function: Callable[..., Any], reverse: bool = False) -> Callable[..., Any]:
    def method(self: VirtualRegister, other: Any) -> Any:
        a, b = self._number(), other._number() if isinstance(other, VirtualRegister) else other
        return function(b, a) if reverse else function(a, b)

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "lshift", "rshift"):
    setattr(VirtualRegister, f"__{_name}__", _of_value(getattr(operator, _name)))
    setattr(VirtualRegister, f"__r{_name}__", _of_value(getattr(operator, _name), reverse=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(VirtualRegister, f"__{_name}__", _of_value(getattr(operator, _name)))


@contextmanager
def assume_registers(values: Mapping[str, int] | int) -> Iterator[None]:
    """Let registers that data decides hold stated values in kernels recorded without data.

    `values` is one number for all, or maps the place of the load ("kernel.py:12") or the register's
    name. Of the condition of a `while` the number says how often it holds.
    """
    token = _assumed.set(values)
    try:
        yield
    finally:
        _assumed.reset(token)


def _register(value: Any, function: str) -> VirtualRegister:
    if not isinstance(value, VirtualRegister):
        raise UsageError(
            f"nisa.{function}: {value!r} is no register; make one with nisa.register_alloc()."
        )
    return value


def register_alloc(x: Any = None) -> VirtualRegister:
    """Return a new register: 0, or holding an int, or the element of a one-element tensor."""
    active = recorder()
    made = VirtualRegister(active, None)
    if isinstance(x, VirtualRegister) or not (x is None or isinstance(x, AccessPattern)):
        register_move(made, x)
    elif x is not None:
        use("register from tile")
        register_load(made, x)
    return made


def register_load(
    dst: VirtualRegister, src: AccessPattern, name: str | None = None
) -> NkiInstruction:
    """Load the one element of `src`, in SBUF or HBM, into a register."""
    dtype = src.dtype
    if dtype.itemsize < int32.itemsize:
        dtype = float32 if dtype.is_float else int32
    target = _register(dst, "register_load").take(dtype, None)
    return issued(recorder().issue(RegisterLoad, (target, src)), name)


def register_move(
    dst: VirtualRegister, src: Any = None, name: str | None = None, *, imm: Any = None
) -> NkiInstruction:
    """Set a register to an int, a float or the value of another register."""
    if imm is not None:
        use("keyword imm")
        src = imm
    register, operand = _register(dst, "register_move"), src
    if isinstance(src, VirtualRegister):
        target, operand = register.take(src.kind, src._known), src.now()
    elif isinstance(src, float):
        target = register.take(float32, src)
    else:
        operand = float(operator.index(src))
        target = register.take(int32, operator.index(src))
    return issued(recorder().issue(RegisterMove, (target, operand)), name)


def register_store(
    dst: AccessPattern, src: VirtualRegister, name: str | None = None
) -> NkiInstruction:
    """Store a register into the one element of `dst`, in SBUF or HBM."""
    register = _register(src, "register_store")
    same_size = dst.dtype.itemsize == int32.itemsize
    held = register.seen_as(dst.dtype) if same_size else register.now()
    return issued(recorder().issue(RegisterStore, (dst, held)), name)


def _branch(active: Recorder, condition: VirtualRegister | None) -> None:
    """Record the branch of every engine."""
    for engine in active.core.engines:
        active.issue(LoopBranch, (condition,), (engine.name,))


Bound = int | VirtualRegister


def dynamic_range(
    start: Bound, stop: Bound | None = None, step: int = 1
) -> Iterator[VirtualRegister]:
    """Yield the counter of a loop that the device runs: a register that cannot be written.

    The bounds are ints or registers, read when the loop begins; the step is a positive int.
    """
    use("dynamic_range")
    if stop is None:
        start, stop = 0, start
    return _checked(start, stop, step)


def _checked(start: Bound, stop: Bound, step: int) -> Iterator[VirtualRegister]:
    """Return the counters of a dynamic loop where one may stand and the step is legal."""
    if isinstance(step, VirtualRegister) or operator.index(step) < 1:
        raise FrozenRegisterError(f"A dynamic loop's step={step!r} must be an int of at least 1.")
    for bound in (start, stop):
        if not hasattr(bound, "__index__"):
            raise WrongCallError(
                f"A dynamic loop's bound is {bound!r:.80}; it must be an int or a register. Load a "
                "tile's element with nisa.register_load."
            )
    refuse_ordered("A dynamic loop")
    return _counters(recorder(), start, stop, operator.index(step))


def _counters(active: Recorder, start: Bound, stop: Bound, step: int) -> Iterator[VirtualRegister]:
    bound = stop if isinstance(stop, VirtualRegister) else None
    first, last = (int(b.value) if isinstance(b, VirtualRegister) else b for b in (start, stop))
    for count in range(first, last, step):
        _branch(active, bound)
        yield VirtualRegister(active, count, frozen=True)
    _branch(active, bound)


def fori_loop(
    lower: Bound, upper: Bound, body_fun: Callable[[VirtualRegister], None], step: int = 1
) -> None:
    """Call `body_fun(i)` for a register i that counts from `lower` to before `upper`."""
    use("fori_loop")
    for counter in _checked(lower, upper, step):
        body_fun(counter)


def while_loop(init: Bound, body_fun: Callable[[VirtualRegister], VirtualRegister]) -> None:
    """Call `register = body_fun(register)`, beginning with `init`, while the value is not 0."""
    use("fori_loop")
    refuse_ordered("A dynamic loop")
    condition = init if isinstance(init, VirtualRegister) else register_alloc(init)
    while condition._holds():
        condition = _register(body_fun(condition), "while_loop (what its body returns)")
