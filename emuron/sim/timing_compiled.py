"""The timing engine's source as it is, or compiled with numba.

Numba's cache notices changes of the file that a function is in, not of those it calls. The modules
of the engine are therefore compiled as one, in a file whose name has the hash of its text.
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

from emuron.errors import MissingExtraError
from emuron.sim import loop_skip, loop_state, timing_kernel, timing_layout, transfer_kernel
from emuron.sim.timing_layout import Ints

Simulate = Callable[[Ints, Ints, Ints], int]

_MODULES = (timing_layout, loop_state, loop_skip, transfer_kernel, timing_kernel)


def kernel(compiled: bool) -> Simulate:
    """Return `simulate`, compiled if asked; raise MissingExtraError without numba."""
    return _compiled() if compiled else timing_kernel.simulate


def has_numba() -> bool:
    """Return whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@cache
def _compiled() -> Simulate:
    if not has_numba():
        raise MissingExtraError("fast", "the compiled timing engine")
    text = _text(cached=True)
    name = f"timing_engine_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        simulate = _load(_stored(name, text), name)
    except OSError:
        # Nowhere to keep compiled code: compile it for this process only.
        scope: dict[str, Any] = {"__name__": name}
        exec(compile(_text(cached=False), name, "exec"), scope)
        simulate = scope["simulate"]
    return simulate


def _text(*, cached: bool) -> str:
    """Return the engine as one module whose functions are compiled."""
    parts = ["from __future__ import annotations", "from typing import Any, NamedTuple"]
    parts.append("import numba")
    for module in _MODULES:
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


def _load(path: Path, name: str) -> Simulate:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where numba looks when it loads compiled functions
    spec.loader.exec_module(module)
    simulate: Simulate = module.simulate
    return simulate
