"""What `emuron chips` and `emuron instances` both print: figures, sources, alternatives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emuron.cli.output import print_table
from emuron.hardware.catalog import citations
from emuron.hardware.chip import Chip
from emuron.hardware.core import NeuronCore
from emuron.hardware.instance import Instance
from emuron.hardware.record import figures, to_record

Entry = NeuronCore | Chip | Instance


def sourced_record(entry: Chip | Instance) -> dict[str, Any]:
    """Return the record of `entry` with the full names of the sources that it cites."""
    record = to_record(entry)
    return record | {"citations": _cited([entry])}


def print_figures(title: str, entry: Entry) -> None:
    """Print every figure of `entry` beside its source."""
    rows = [(path, shown(value), source) for path, value, source in figures(entry)]
    print_table(("figure", "value", "source"), rows, title=title)


def print_alternatives(*entries: Entry) -> None:
    """Print the values that other sources state, if there are any."""
    rows = [
        (note.path, shown(note.value), note.source)
        for entry in entries
        for note in entry.alternatives
    ]
    if rows:
        columns = ("figure", "alternative", "source")
        print_table(columns, rows, title="Stated otherwise elsewhere")


def print_citations(*entries: Entry) -> None:
    """Print what the short names of the sources of `entries` stand for."""
    print_table(("name", "stands for"), _cited(entries).items(), title="Sources")


def shown(value: object) -> str:
    """Return `value` for a table: figures without needless digits, lists by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list):
        return ", ".join(shown(entry) for entry in value) or "none"
    return str(value)


def number(value: float, digits: int = 6) -> str:
    """Return a whole number whole, any other to `digits` significant digits."""
    return str(int(value)) if value == int(value) else f"{value:.{digits}g}"


def number_or_dash(value: float | None) -> str:
    """Return `value` as a number; a dash where nothing is published."""
    return "–" if value is None else number(value)


def gib(size_bytes: int) -> str:
    """Return a size in bytes as GiB."""
    return f"{size_bytes / 2**30:g}"


def _cited(entries: Iterable[Entry]) -> dict[str, str]:
    sources = [source for entry in entries for _, source in entry.sources]
    sources += [note.source for entry in entries for note in entry.alternatives]
    names = {source.split()[0] for source in sources}
    return {name: full for name, full in citations().items() if name in names}
