"""What every command prints with: the --json option, tables, progress and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text for people.")
]
"""The type of a command's `as_json` parameter: `def chips(as_json: Json = False)`."""


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr that leaves brackets in the text alone."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False)


def print_json(document: object) -> None:
    """Print `document` as indented JSON on stdout; not-a-number and infinity are refused."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
    caption: str | None = None,
) -> None:
    """Print a table on stdout, as `table` makes it."""
    console().print(table(columns, rows, title=title, right=right, whole=whole, caption=caption))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
    caption: str | None = None,
) -> Table:
    """Return a table for a console; None shows as a dash.

    `right` names the columns aligned right, `whole` those never cut where the terminal is narrow.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    aligned_right, never_cut = frozenset(right), frozenset(whole)
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in aligned_right else "left",
            no_wrap=column in never_cut,
        )
    for row in rows:
        made.add_row(*("–" if cell is None else Text(str(cell)) for cell in row))
    return made


def progress() -> Progress:
    """Return a progress bar on stderr that vanishes when done; silent if nobody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def print_error(message: str) -> None:
    """Print one paragraph on stderr."""
    from rich.text import Text

    paragraph = " ".join(message.split())
    console(stderr=True).print(Text.assemble(("Error: ", "bold red"), paragraph), soft_wrap=True)
