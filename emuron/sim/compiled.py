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


def checked(numba: Numba) -> Numba:
    """Return a choice of numba; raise UsageError for anything but True, False and "auto"."""
    if numba not in (True, False, "auto"):
        raise UsageError(f'numba is {numba!r}; it can be True, False or "auto"')
    return numba


def has_numba() -> bool:
    """Return whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@cache
def compiled(name: str, *modules: ModuleType) -> Callable[..., Any]:
    """Return a function, compiled with the modules it needs; raise MissingExtraError without numba.

    The function is in the last of the modules.
    """
    if not has_numba():
        raise MissingExtraError("fast", "the compiled timing engine")
    text = _text(modules, cached=True)
    stored = f"emuron_{name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        function = getattr(_load(_stored(stored, text), stored), name)
    except OSError:
        # Nowhere to keep compiled code: compile it for this process only.
        scope: dict[str, Any] = {"__name__": stored}
        exec(compile(_text(modules, cached=False), stored, "exec"), scope)
        function = scope[name]
    made: Callable[..., Any] = function
    return made


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


def _stored(name: str, text: str) -> Path:
    """Return the file that holds the text, in the user's cache."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emuron"
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
