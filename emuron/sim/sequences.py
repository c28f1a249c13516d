"""Fixed sequences of tile operations as straight NumPy code.

Most instructions call the same tile operations whatever the data. Their `compute` runs once with a
tape in place of the back end; from the tape comes a function that makes the same NumPy calls with
their results in scratch memory, the last one in the destination itself where it can be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.isa.instruction import Instruction
from emuron.numerics.dtypes import float32
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage
from emuron.sim.reads import Gather, Register
from emuron.sim.stores import Step, Store, destination, scatter

FIXED = frozenset(
    {
        "activation",
        "activation_reduce",
        "reciprocal",
        "scalar_tensor_tensor",
        "select_reduce",
        "tensor_copy",
        "tensor_reduce",
        "tensor_scalar",
        "tensor_scalar_reduce",
        "tensor_tensor",
    }
)
"""Instructions of which `compute` consists of tile operations that attributes and shapes choose."""

_UFUNCS: Mapping[str, np.ufunc] = MappingProxyType(
    {
        name: getattr(np, name)
        for name in (
            "add", "subtract", "multiply", "divide", "maximum", "minimum",
            "abs", "negative", "sign", "floor", "sqrt", "exp", "log", "sin", "cos", "arctan",
            "tanh",
        )
    }
)  # fmt: skip
"""Tile operations that are one NumPy function (numerics.numpy_backend)."""


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    result: Any


class Tape:
    """A back end that writes down the calls made to it, with their operands and results."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self.calls: list[_Call] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._ops, name)

        def call(*args: Any, **named: Any) -> Any:
            result = operation(*args, **named)
            self.calls.append(_Call(name, args, named, result))
            return result

        return call


Run = Callable[[Sequence[Any], Any], Sequence[Any]]  # (operands, destination) -> results
Writes = Sequence[tuple[int, int, Access, Store]]  # (number of the result, operand, …)


def fixed_step(
    machine: Machine,
    example: Instruction,
    gather: Gather,
    writes: Writes,
    several: bool,
    register: Register | None,
) -> Step:
    """Return the prepared execution of one of the FIXED instructions on NumPy.

    The code depends on one thing besides the form: whether there is a content of the register.
    """
    ops = machine.ops
    codes: dict[bool, _Code] = {}

    def first(args: Sequence[Any]) -> Sequence[Any]:
        """Compute with a tape, and keep its code for the next time."""
        tape = Tape(ops)
        results = example.compute(tape, *args)
        results = results if several else (results,)
        try:
            codes[args[-1] is None] = _coded(machine, tape, args, results, writes)
        except KeyError:
            codes[args[-1] is None] = _uncoded(example, ops, several)
        return results

    def step(storages: list[Storage], offsets: list[int]) -> None:
        args = gather(storages, offsets)
        code = codes.get(args[-1] is None)
        place = -1 if code is None else code.place
        if code is None:
            results = first(args)
        elif place < 0:
            results = code.run(args, None)
        else:
            _, k, access, _ = writes[place]
            results = code.run(args, destination(access, storages[k], offsets[k]))
        if register is not None:
            register.replace(results[-1])
        for number, (output, k, access, store) in enumerate(writes):
            if number != place:
                scatter(ops, access, store, storages[k], offsets[k], results[output])

    return step


@dataclass(frozen=True, slots=True)
class _Code:
    run: Run
    place: int  # the number of the write that `run` does itself, −1 if it does none


def _coded(
    machine: Machine, tape: Tape, args: Sequence[Any], results: Sequence[Any], writes: Writes
) -> _Code:
    """Return the code of a tape; KeyError for a value that no call, operand or constant gave."""
    for number, (output, _, access, _) in enumerate(writes):
        value = results[output]
        # A destination that keeps one of many results is no place to read the others from.
        fits = access.fills and access.dtype == float32
        if fits and _is_float32(value) and value.shape == access.shape:
            writer = _Writer(machine, tape.calls, args, results, value)
            if writer.direct >= 0:
                return _Code(writer.function(), number)
    return _Code(_Writer(machine, tape.calls, args, results, None).function(), -1)


def _uncoded(example: Instruction, ops: Any, several: bool) -> _Code:
    """Return `compute` itself as code, for a tape with values of other origin."""

    def run(args: Sequence[Any], _: Any) -> Sequence[Any]:
        results = example.compute(ops, *args)
        return results if several else (results,)

    return _Code(run, -1)


class _Writer:
    """Writes the source: every value has a name, every constant one in `scope`."""

    def __init__(
        self,
        machine: Machine,
        calls: Sequence[_Call],
        operands: Sequence[Any],
        results: Sequence[Any],
        target: Any,
    ) -> None:
        self.machine = machine
        self.calls = calls
        self.results = results
        self.scope: dict[str, Any] = {}
        self.names = {id(x): f"a[{k}]" for k, x in enumerate(operands) if _is_array(x)}
        used = [x for call in calls for x in (*call.args, *call.named.values())]
        self.uses = Counter(id(x) for x in (*used, *results))
        self.scratch: dict[str, Any] = {}
        self.direct = self._last_call(target)

    def _last_call(self, wanted: Any) -> int:
        """Return the call that can put its result into place: none after it reads an operand."""
        later: set[int] = set()
        for k in reversed(range(len(self.calls))):
            call = self.calls[k]
            if call.result is wanted and call.name in _UFUNCS:
                after = {id(c.result) for c in self.calls[k:]}
                return k if later <= after else -1
            later |= {id(x) for x in (*call.args, *call.named.values()) if _is_array(x)}
        return -1

    def function(self) -> Run:
        """Return the function; KeyError if a value has no name."""
        lines = [self._line(k, call) for k, call in enumerate(self.calls)]
        returned = "".join(f"{self._value(x)}, " for x in self.results)
        body = "".join(f"    {line}\n" for line in [*lines, f"return ({returned})"])
        exec(compile(f"def run(a, d):\n{body}", __file__, "exec"), self.scope)
        made: Run = self.scope["run"]
        return made

    def _line(self, k: int, call: _Call) -> str:
        args = [self._value(x) for x in call.args]
        args += [f"{name}={self._value(x)}" for name, x in call.named.items()]
        narrow = not _is_float32(call.result) or not all(
            _is_float32(x) for x in call.args if _is_array(x)
        )
        if call.name not in _UFUNCS or narrow:
            self.names[id(call.result)] = f"v{k}"
            self.scope[f"f{k}"] = getattr(self.machine.ops, call.name)
            return f"v{k} = f{k}({', '.join(args)})"
        self.scope[call.name] = _UFUNCS[call.name]
        out = "d" if k == self.direct else self._place(call, args)
        self.names[id(call.result)] = out
        return f"{call.name}({', '.join(args)}, out={out})"

    def _place(self, call: _Call, args: Sequence[str]) -> str:
        """Return the scratch for a result: that of an operand which nothing else reads, or new."""
        for x, name in zip(call.args, args, strict=False):
            known = self.scratch.get(name)
            if known is not None and self.uses[id(x)] == 1 and known.shape == call.result.shape:
                return name
        name = f"s{len(self.scratch)}"
        self.scratch[name] = self.machine.scratch(name, call.result.shape)
        self.scope[name] = self.scratch[name]
        return name

    def _value(self, x: Any) -> str:
        if _is_array(x):
            return self.names[id(x)]
        if isinstance(x, list | tuple) and any(_is_array(part) for part in x):
            return f"[{', '.join(self._value(part) for part in x)}]"
        name = f"c{len(self.scope)}"
        self.scope[name] = x
        return name


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _is_float32(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float32
