"""Finds Python in kernels that runs here, but that the compilers of NKI 0.2 to 0.6 refuse.

Nothing is looked for unless asked: by `check_subset("warn")` or `check_subset("error")`, or by the
same words in EMURON_NKI_SUBSET. A kernel held to one version gets the findings of that version.
"""

from __future__ import annotations

import ast
import inspect
import os
import site
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from emuron.errors import SubsetError, UnknownNameError
from emuron.nki.recorder import PACKAGE
from emuron.nki.subset_rules import RULES, Rule, derives_properly, found, found_in_signature
from emuron.nki.versions import VERSIONS, held_version, is_before

MODES = ("off", "warn", "error")
SUBSET_VARIABLE = "EMURON_NKI_SUBSET"

_mode: ContextVar[str | None] = ContextVar("subset", default=None)
_INSTALLED = tuple(
    {PACKAGE, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *site.getsitepackages()}
)


class SubsetWarning(UserWarning):
    """Python in a kernel that a compiler of NKI refuses."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A construct in a kernel's source that a compiler of NKI refuses."""

    file: str
    line: int
    rule: Rule

    def __str__(self) -> str:
        last = self.rule.last or VERSIONS[-1]
        span = f"NKI {self.rule.first}" + ("" if last == self.rule.first else f" to {last}")
        return (
            f"{Path(self.file).name}:{self.line}: {self.rule.construct} {self.rule.why} ({span}). "
            f"{self.rule.way_out}"
        )


@contextmanager
def check_subset(mode: str) -> Iterator[None]:
    """Check the kernels launched inside: "warn", "error" (SubsetError) or "off"."""
    token = _mode.set(_known(mode))
    try:
        yield
    finally:
        _mode.reset(token)


def _known(mode: str) -> str:
    if mode not in MODES:
        raise UnknownNameError("way to treat findings", mode, MODES)
    return mode


def enforce(kernel: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Warn of what a compiler would refuse in a launch, or raise SubsetError, as asked for."""
    mode = _mode.get() or _known(os.environ.get(SUBSET_VARIABLE, "off"))
    if mode == "off":
        return
    findings = check(kernel, args, kwargs)
    if findings and mode == "error":
        raise SubsetError("\n".join(map(str, findings)))
    for finding in findings:
        warnings.warn_explicit(str(finding), SubsetWarning, finding.file, finding.line)


def check(
    kernel: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Return what a compiler refuses in a kernel and the functions it calls, by file and line.

    With `args` and `kwargs` the arguments of a launch are checked too. Held to a version, only what
    that version refuses counts.
    """
    search = _Search()
    function = _function(kernel)
    if function is None:
        return []
    search.kernel(function)
    if args is not None:
        search.arguments(function, [*args, *(kwargs or {}).values()])
    version = held_version()
    return sorted(
        (f for f in search.findings if version is None or _refuses(f.rule, version)),
        key=lambda f: (f.file, f.line, f.rule.construct),
    )


def _refuses(rule: Rule, version: str) -> bool:
    last = rule.last or VERSIONS[-1]
    return not is_before(version, rule.first) and not is_before(last, version)


def _function(value: Any) -> FunctionType | None:
    """Return the Python function behind a kernel or a decorated function; None if there is none."""
    while not isinstance(value, FunctionType) or hasattr(value, "__wrapped__"):
        inner = getattr(value, "func", None) or getattr(value, "__wrapped__", None)
        if inner is None or inner is value:
            return None
        value = inner
    return value


class _Search:
    """Goes through a kernel and what it calls; each function once."""

    def __init__(self) -> None:
        self.findings: set[Finding] = set()
        self._seen: set[object] = set()

    def kernel(self, function: FunctionType) -> None:
        """Check a function that is launched, and all that it calls."""
        tree = _tree(function)
        if tree is not None and isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
            self._note(function, found_in_signature(tree))
        self._body(function)

    def arguments(self, function: FunctionType, values: list[Any]) -> None:
        """Check the arguments of a launch."""
        keys = ["list argument"] * any(isinstance(value, list) for value in values)
        keys += ["no arguments"] * (not values)
        self._note(function, ((key, 1) for key in keys))

    def _note(self, function: FunctionType, keys: Iterator[tuple[str, int]]) -> None:
        code = function.__code__
        for key, line in keys:
            place = code.co_firstlineno + line - 1
            self.findings.add(Finding(code.co_filename, place, RULES[key]))

    def _body(self, function: FunctionType) -> None:
        if function in self._seen:
            return
        self._seen.add(function)
        tree = _tree(function)
        if tree is None:
            return
        self._note(function, found(tree))
        names = inspect.getclosurevars(function)
        known = {**names.globals, **names.nonlocals}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self._called(function, node, _resolved(node.func, known))

    def _called(self, caller: FunctionType, node: ast.Call, target: Any) -> None:
        if isinstance(target, type):
            if _is_own(inspect.getmodule(target)):
                self._class(caller, node, target)
            return
        function = _function(target)
        if function is not None and not function.__code__.co_filename.startswith(_INSTALLED):
            self._body(function)

    def _class(self, caller: FunctionType, node: ast.Call, kind: type) -> None:
        """Check a user's class that a function makes an object of, and its methods."""
        if not derives_properly(kind):
            self._note(caller, iter([("class", node.lineno)]))
        for value in vars(kind).values():
            method = _function(getattr(value, "__func__", value))
            if method is not None and method.__module__ == kind.__module__:
                self._body(method)


def _is_own(module: Any) -> bool:
    """Return whether a module is a user's, not installed."""
    file = getattr(module, "__file__", None)
    return file is not None and not file.startswith(_INSTALLED)


def _resolved(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """Return what a name or a dotted name means; None if that is not known before it runs."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, known)
        return None if owner is None else inspect.getattr_static(owner, node.attr, None)
    return None


def _tree(function: FunctionType) -> ast.stmt | None:
    """Return the tree of a function's source, lines counted from its first; None if there is none.

    A lambda has no statement of its own and is not looked at.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
        body = ast.parse(source).body
    except (OSError, SyntaxError, TypeError):
        return None
    first = body[0] if body else None
    return first if isinstance(first, ast.FunctionDef | ast.AsyncFunctionDef) else None
