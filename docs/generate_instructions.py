"""Write docs/reference/instructions.md from the classes: python docs/generate_instructions.py."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from generate_hardware import cell, table

import emuron.nki.isa
from emuron.errors import UnknownNameError
from emuron.hardware.catalog import chips
from emuron.hardware.core import NeuronCore
from emuron.isa.instruction import REGISTRY, Instruction

PAGE = Path(__file__).parent / "reference" / "instructions.md"

INTRODUCTION = """\
# Instructions

What each instruction of a NeuronCore computes, refuses and costs on each generation. This page is
generated from the instruction classes in `emuron/isa`; their figures, with where each is stated,
are those of the [hardware page](hardware.md).

Cycles are those of the engine that runs the instruction. P is the number of partitions, N the
number of elements a partition, MIN_II the least time between two instructions. A source is a
document whose short name the [hardware page](hardware.md#sources) explains; *assumed* and
*inferred* say that nothing is published.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the text of the page."""
    generations = tuple(dict.fromkeys(chip.core for chip in chips() if chip.core.nc_version))
    classes = sorted(REGISTRY.values(), key=lambda cls: cls.mnemonic)
    parts = [
        INTRODUCTION,
        "## Overview\n",
        table(
            ("instruction", "engines", "generations", "meaning"),
            (overview(cls, generations) for cls in classes),
        ),
    ]
    parts += [section(cls, generations) for cls in classes]
    return "\n".join(parts)


def overview(cls: type[Instruction], generations: Iterable[NeuronCore]) -> tuple[object, ...]:
    """Return the row of an instruction in the overview."""
    having = [core.version for core in generations if exists(cls, core)]
    link = f"[{cls.mnemonic}](#{cls.mnemonic})"
    return link, ", ".join(cls.engines), ", ".join(having), first_line(cls)


def section(cls: type[Instruction], generations: Iterable[NeuronCore]) -> str:
    """Return meaning, limits, cost and source of an instruction, and its figures."""
    rows = [
        (core.version, listed(cls.check, core), listed(cls.cost, core))
        if exists(cls, core)
        else (core.version, "does not exist", None)
        for core in generations
    ]
    return (
        f"## {cls.mnemonic}\n\n{inspect.getdoc(cls)}\n\n"
        f"* **Engines:** {', '.join(cls.engines)}\n"
        f"* **Limits:** {first_line(cls.check)}\n"
        f"* **Cost:** {first_line(cls.cost)}\n"
        f"* **Source:** {cls.source or 'assumed'}\n\n"
        + table(("generation", "figures of its limits", "figures of its cost"), rows)
    )


def exists(cls: type[Instruction], core: NeuronCore) -> bool:
    """Return whether a generation has an instruction."""
    return (core.nc_version or 1) >= cls.since


def first_line(documented: Any) -> str:
    """Return the summary of a docstring on one line."""
    text = (inspect.getdoc(documented) or "").split("\n\n")[0]
    return " ".join(text.split())


def listed(function: Callable[..., Any], core: NeuronCore) -> str | None:
    """Return the figures that a function reads of a core, with their values."""
    named = []
    for path in sorted(set(figures(function, set())) - {"dtypes"}):
        value: Any = core
        try:
            core.source(path)
        except UnknownNameError:
            continue
        for name in path.split("."):
            value = getattr(value, name)
        shown = list(value) if isinstance(value, tuple) else value
        named.append(f"`{path}` {cell(shown)}")
    return "; ".join(named) or None


def figures(function: Callable[..., Any], seen: set[object]) -> Iterator[str]:
    """Yield the dotted paths of the attributes of `core` that a function reads, callees too."""
    if function in seen or not inspect.isfunction(function):
        return
    seen.add(function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = {"core": ""}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            path = dotted(node.value, names)
            if path:
                names[node.targets[0].id] = f"{path}."
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            path = dotted(node, names)
            if path:
                yield path
        elif isinstance(node, ast.Call) and any(is_core(a) for a in node.args):
            yield from figures(callee(node.func, function), seen)


def dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """Return the path of `core.a.b`, also by way of a name for `core.a`; None for others."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names or not parts:
        return None
    return names[node.id] + ".".join(reversed(parts))


def is_core(node: ast.expr) -> bool:
    """Return whether an argument is the core itself."""
    return isinstance(node, ast.Name) and node.id == "core"


def callee(node: ast.expr, caller: Callable[..., Any]) -> Any:
    """Return the function of the package that a call names, None for others."""
    scope = inspect.unwrap(caller).__globals__
    if isinstance(node, ast.Name):
        return scope.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "self":
            owner = scope.get(caller.__qualname__.split(".")[0])
            return inspect.getattr_static(owner, node.attr, None)
        return getattr(scope.get(node.value.id), node.attr, None)
    return None


assert emuron.nki.isa.REGISTRY is REGISTRY  # its import registers every instruction

if __name__ == "__main__":
    main()
