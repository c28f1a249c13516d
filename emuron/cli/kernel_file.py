"""Kernel files: what `emuron kernel run FILE` finds in a Python file, and inputs it makes up."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from emuron.errors import EmuronError, UnknownNameError, UsageError
from emuron.nki.arrays import ShapeDtype
from emuron.nki.cases import Case
from emuron.nki.kernel import Kernel
from emuron.nki.source_places import source_place
from emuron.numerics.dtypes import dtype as to_dtype
from emuron.numerics.rounding import round_to

_INPUT = re.compile(r"(?P<dtype>\w+)\[(?P<shape>[\d,x ]*)\]$")
_SHORT_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f8": "float8_e4m3",
    **{f"{short}{bits}": f"{long}{bits}" for short, long in (("i", "int"), ("u", "uint"))
       for bits in (8, 16, 32)},
}  # fmt: skip
_INTEGERS_BELOW = 100  # made-up integers are small, so that sums of them are exact


@contextmanager
def users_errors() -> Iterator[None]:
    """Turn an error of the user's own code into a UsageError that names its line."""
    try:
        yield
    except (EmuronError, ImportError):
        raise
    except Exception as error:
        place = source_place(error.__traceback__)
        text = f"{type(error).__name__}: {error}"
        raise UsageError(f"{place}: {text}" if place else text) from error


def load_file(path: Path) -> ModuleType:
    """Return the module of a Python file, in which `import nki` finds emuron if nothing else.

    Modules beside the file can be imported by it.
    """
    import_module("emuron.compat")  # installs the stand-ins
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        with users_errors():
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def kernels_of(module: ModuleType) -> dict[str, Kernel]:
    """Return the kernels that a file defines, by name."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Kernel)}


def chosen_cases(
    module: ModuleType, kernel: str | None, case: str | None, inputs: Sequence[str]
) -> list[Case]:
    """Return the cases to run: those of `cases()`, or one made of `kernel` and `inputs`.

    `kernel` and `case` narrow the choice; `case` is a part of a case's name.
    """
    if inputs:
        return [_made_up(module, kernel, inputs)]
    if not hasattr(module, "cases"):
        names = ", ".join(kernels_of(module)) or "none"
        raise UsageError(
            f"{module.__name__} has no function cases(); its kernels: {names}. Name one with "
            "--kernel and give its arguments with --input, as in --input 'a=f32[128,512]'."
        )
    with users_errors():
        found: list[Case] = list(module.cases())
    if kernel is not None:
        found = [c for c in found if getattr(c.kernel, "__name__", "") == kernel]
        _require(found, "kernel with a case", kernel, kernels_of(module))
    if case is not None:
        known = [c.name for c in found]
        found = [c for c in found if case in c.name]
        _require(found, "case", case, known)
    return found


def _require(found: list[Case], kind: str, name: str, known: Iterable[str]) -> None:
    if not found:
        raise UnknownNameError(kind, name, known)


def _made_up(module: ModuleType, kernel: str | None, inputs: Sequence[str]) -> Case:
    kernels = kernels_of(module)
    if kernel is None and len(kernels) == 1:
        kernel = next(iter(kernels))
    if kernel is None or kernel not in kernels:
        raise UnknownNameError("kernel", kernel or "(none given with --kernel)", kernels)
    chosen = kernels[kernel]
    random = np.random.default_rng(0)
    values = dict(_parsed(text, random) for text in inputs)
    try:
        bound = inspect.signature(chosen.func).bind(**values)
    except TypeError as error:
        given = ", ".join(values)
        raise UsageError(
            f"{kernel}{inspect.signature(chosen.func)} cannot be called with {given}: {error}."
        ) from error
    bound.apply_defaults()
    return Case(" ".join(inputs), chosen, bound.args)


def _parsed(text: str, random: np.random.Generator) -> tuple[str, Any]:
    """Return name and value of `name=dtype[shape]` (random numbers) or `name=literal`."""
    name, equals, value = text.partition("=")
    matched = _INPUT.match(value.strip())
    if not equals or not name.isidentifier():
        raise UsageError(f"--input {text} is not of the form name=f32[128,512] or name=0.5.")
    if matched is None:
        try:
            return name, ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise UsageError(
                f"--input {text}: {value} is neither dtype[shape], as f32[128,512], nor a number, "
                "string or tuple as Python writes it."
            ) from None
    kind = to_dtype(_SHORT_DTYPES.get(matched["dtype"], matched["dtype"]))
    shape = tuple(int(n) for n in re.split(r"[,x ]+", matched["shape"].strip()) if n)
    if kind.kind == "float":
        drawn = random.standard_normal(shape, dtype=np.float32)
        return name, np.asarray(round_to(drawn, kind))
    return name, random.integers(0, _INTEGERS_BELOW, shape).astype(kind.np)


def without_data(case: Case) -> Case:
    """Return a case whose arrays are shapes only: it is timed, not executed."""
    args = tuple(
        ShapeDtype(tuple(arg.shape), str(to_dtype(arg.dtype))) if hasattr(arg, "shape") else arg
        for arg in case.args
    )
    return Case(case.name, case.kernel, args)
