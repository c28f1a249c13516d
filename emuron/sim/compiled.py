"""Functions of the simulators as they are, or compiled with numba.

Numba's cache notices changes of the file that a function is in, not of those it calls. The modules
that a function needs are therefore compiled as one, in a file whose name has the hash of its text.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from emuron.errors import MissingExtraError, UsageError

Numba = bool | str  # True, False, or "auto": in long runs, if numba is installed

# From about so many instructions on, compiled code makes up for its start-up: for being loaded
# where an earlier process has left it, or else for being compiled.
_LOAD_FROM = 20_000
_COMPILE_FROM = 200_000


def checked(numba: Numba) -> Numba:
    """Return a choice of numba; raise UsageError for anything but True, False and "auto"."""
    if numba not in (True, False, "auto"):
        raise UsageError(f'numba is {numba!r}; it can be True, False or "auto"')
    return numba


def has_numba() -> bool:
    """Return whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


def pays(numba: Numba, instructions: int, name: str, *modules: ModuleType) -> bool:
    """Return whether to run the compiled function on so many instructions."""
    if numba != "auto":
        return numba is True
    if instructions < _LOAD_FROM or not has_numba():
        return False
    return instructions >= _COMPILE_FROM or _is_compiled(name, modules)


def _is_compiled(name: str, modules: tuple[ModuleType, ...]) -> bool:
    """Return whether the user's cache holds the compiled function."""
    return any((_folder() / "__pycache__").glob(f"{_source(name, modules)[0]}.{name}-*.nbi"))


@cache
def compiled(name: str, *modules: ModuleType) -> Callable[..., Any]:
    """Return a function, compiled with the modules it needs; raise MissingExtraError without numba.

    The function is in the last of the modules.
    """
    if not has_numba():
        raise MissingExtraError("fast", "the compiled timing engine")
    stored, text = _source(name, modules)
    try:
        function = getattr(_load(_stored(stored, text), stored), name)
    except OSError:
        # Nowhere to keep compiled code: compile it for this process only.
        scope: dict[str, Any] = {"__name__": stored}
        exec(compile(_text(modules, cached=False), stored, "exec"), scope)
        function = scope[name]
    made: Callable[..., Any] = function
    return made


@cache
def _source(name: str, modules: tuple[ModuleType, ...]) -> tuple[str, str]:
    """Return the name under which a function is kept, and its source with all that it needs."""
    text = _text(modules, cached=True)
    return f"emuron_{name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}", text


def _text(modules: tuple[ModuleType, ...], *, cached: bool) -> str:
    """Return the modules as one whose functions are compiled."""
    parts = ["from __future__ import annotations", "from typing import Any, NamedTuple"]
    parts.append("import numba")
    for module in modules:
        for node in _tree(module).body:
            if isinstance(node, ast.FunctionDef):
                parts.append(f"@numba.njit(cache={cached})")
            if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
                parts.append(ast.unparse(node))
    return "\n".join(parts) + "\n"


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emuron"


def _stored(name: str, text: str) -> Path:
    """Return the file that holds the text, in the user's cache."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        temporary = folder / f"{name}.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    return path


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where numba looks when it loads compiled functions
    spec.loader.exec_module(module)
    return module
