"""Walks jaxprs and writes the graph, equation by equation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from emuron.compiler.frontends import jax_math as _math
from emuron.compiler.frontends import jax_moves as _moves
from emuron.compiler.frontends.jax_call import TABLE, Call
from emuron.compiler.frontends.known_values import KnownValues, narrow, narrowed
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import EmuronError, UnsupportedOpError

MODULES = (_math, _moves)
"""Where the handlers of the table stand: importing them fills it."""

_LIBRARIES = re.compile(r"/(jax|jaxlib|flax|keras|optax)/|<|/emuron/compiler/")
_NUMBERED = re.compile(r"_(\d+)$")

Fallback = Callable[["JaxImporter", Any, Sequence[Value]], "list[Value] | None"]
"""Writes an equation whose primitive the table lacks; None where that is not possible."""


class JaxImporter:
    """The state of one import."""

    def __init__(self, name: str, fallback: Fallback, *, with_data: bool) -> None:
        """Prepare to import; without `with_data` large constants have no data."""
        self.b = GraphBuilder(name)
        self.known = KnownValues(self.b)
        self.fallback = fallback
        self.with_data = with_data

    def inline(self, jaxpr: Any, *operands: Value) -> list[Value]:
        """Write a jaxpr on operands and return its results."""
        inner, constants = (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())
        held = {v: self.constant(c) for v, c in zip(inner.constvars, constants, strict=True)}
        values: dict[Any, Value] = {**held, **dict(zip(inner.invars, operands, strict=True))}

        def operand(x: Any) -> Value:
            if hasattr(x, "val"):
                return self.known.value(np.asarray(x.val, x.aval.dtype))
            return values[x]

        for equation in inner.eqns:
            results = self._equation(equation, [operand(x) for x in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [operand(x) for x in inner.outvars]

    def constant(self, array: Any) -> Value:
        """Return the value that holds a constant of a jaxpr."""
        if getattr(array, "dtype", None) is not None and "key<" in str(array.dtype):
            raise UnsupportedOpError("random keys as constants; pass them as arguments")
        return self.known.value(narrow(np.asarray(array), "a constant"))

    def _equation(self, equation: Any, operands: list[Value]) -> list[Value]:
        name, source = equation.primitive.name, source_of(equation)
        where = f"{name} at {source}" if source else name
        with ExitStack() as stack:
            scope = scope_of(equation)
            if scope:
                stack.enter_context(self.b.scope(scope))
            if source:
                stack.enter_context(self.b.at(source))
            try:
                outs = tuple(type_of(v.aval) for v in equation.outvars)
                results = self._handled(equation, outs, operands)
            except EmuronError as error:
                if source and source in str(error):
                    raise
                raise UnsupportedOpError(f"{where}: {error}") from error
        for value, out in zip(results, outs, strict=True):
            if value.type != out:
                raise UnsupportedOpError(
                    f"{where}: JAX gives {out} where the front end builds {value.type}"
                )
        return results

    def _handled(
        self, equation: Any, outs: tuple[TensorType, ...], operands: list[Value]
    ) -> list[Value]:
        name = equation.primitive.name
        handler = TABLE.get(name)
        if handler is None:
            found = self.fallback(self, equation, operands)
            if found is None:
                raise UnsupportedOpError("the JAX front end does not know this primitive")
            return found
        call = Call(self.b, self.known, name, equation.params, outs, self.inline)
        result = handler(call, *operands)
        return [result] if isinstance(result, Value) else list(result)


def type_of(aval: Any) -> TensorType:
    """Return the type that stands for an abstract value of JAX."""
    name = str(getattr(aval, "dtype", ""))
    if "key<" in name:
        raise UnsupportedOpError(f"random keys ({name}) are not data of the chip")
    if not all(isinstance(n, int) for n in aval.shape):
        raise UnsupportedOpError(f"the shape {aval.shape} is not known; trace at numbers")
    return TensorType(tuple(aval.shape), narrowed(aval.dtype))


def scope_of(equation: Any) -> str:
    """Return the layer of an equation: `Block_0/attn` is `Block.0.attn`."""
    path = str(equation.source_info.name_stack)
    parts = [p for p in path.split("/") if p and "(" not in p]
    return ".".join(_NUMBERED.sub(r".\1", p) for p in parts)


def source_of(equation: Any) -> str:
    """Return `file:line` of the innermost frame outside the libraries, or ""."""
    trace = equation.source_info.traceback
    for frame in trace.frames if trace is not None else ():
        if not is_library(frame.file_name):
            return f"{frame.file_name}:{frame.line_num}"
    return ""


def is_library(file: str) -> bool:
    """Tell whether a file is one of the libraries that trace, not the user's."""
    return _LIBRARIES.search(file) is not None
