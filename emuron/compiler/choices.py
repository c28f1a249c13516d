"""What the compiler chose for a graph, kept in the user's cache so that it need not try again.

A choice is small and says only which candidate was the quickest: the program itself is written
anew, so that nothing is ever executed, or unpickled, that a file holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import emuron
from emuron.compiler.graph import Graph
from emuron.compiler.ops.kernel_call import KernelCall
from emuron.errors import UsageError
from emuron.trace.atomic import replacing

FOLDER_VARIABLE = "EMURON_CACHE"
"""In the environment: the folder of the cache, or "off"."""

MOST_FILES = 1000
"""Choices that are kept; those used the longest time ago go first. One takes about 1 KB."""

_MOST_BYTES = 1 << 16  # of a file; a choice takes far less
_SUFFIX = ".json"
_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError),
    *(AttributeError, OverflowError, RecursionError),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate that was the quickest, and the figures of how it came about."""

    interleaved: bool
    share: float
    figures: Mapping[str, float]


def choice_key(graph_hash: str, *options: object) -> str:
    """Return the name of a choice: the graph, all that decides about its program, and emuron.

    The text of `options` must tell them apart: frozen dataclasses of plain values do.
    """
    text = "\n".join((graph_hash, *map(repr, options), emuron.__version__, _sources()))
    return hashlib.sha256(text.encode()).hexdigest()


def calls_foreign_code(graph: Graph) -> bool:
    """Return whether a graph holds custom kernels, whose code no key tells apart for certain."""
    attributes = [v for node in graph.nodes for v in node.op.attributes().values()]
    return any(isinstance(node.op, KernelCall) for node in graph.nodes) or any(
        calls_foreign_code(v) for v in attributes if isinstance(v, Graph)
    )


def find_choice(key: str) -> Choice | None:
    """Return what was chosen; None if nothing was, or if the file is broken or foreign."""
    path = _path(key)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            choice = _choice(json.loads(file.read(_MOST_BYTES)))
        os.utime(path)
    except _BROKEN:
        return None
    return choice


def keep_choice(key: str, choice: Choice) -> None:
    """Write a choice, whole or not at all; where nothing can be written it is not kept."""
    path = _path(key)
    if path is None:
        return
    record = {"interleaved": choice.interleaved, "share": choice.share}
    text = json.dumps({**record, "figures": dict(choice.figures)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode())
        _drop_oldest(path.parent)
    except (OSError, UsageError):
        return


def _choice(record: Any) -> Choice:
    interleaved, share = record["interleaved"], float(record["share"])
    figures = {str(name): value for name, value in record["figures"].items()}
    finite = all(type(v) in (int, float) and math.isfinite(v) for v in (share, *figures.values()))
    if type(interleaved) is not bool or not finite or not 0 <= share < 1:
        raise ValueError("this is no choice")
    return Choice(interleaved, share, figures)


def _path(key: str) -> Path | None:
    given = os.environ.get(FOLDER_VARIABLE)
    if given == "off":
        return None
    try:
        folder = Path(given) if given else _user_folder()
    except RuntimeError:  # nobody's home is known
        return None
    return folder / "choices" / f"{key}{_SUFFIX}"


def _user_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emuron"


def _drop_oldest(folder: Path) -> None:
    files = list(folder.glob(f"*{_SUFFIX}"))
    if len(files) <= MOST_FILES:
        return
    files.sort(key=lambda file: file.stat().st_mtime_ns)
    for file in files[:-MOST_FILES]:
        file.unlink(missing_ok=True)


@cache
def _sources() -> str:
    """Return a mark of the code and data of this package, which a version alone does not tell."""
    folder = Path(emuron.__file__).parent
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".toml"))
    stats = ((p.relative_to(folder).as_posix(), p.stat()) for p in files)
    marks = (f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()
