"""How strictly a command takes kernels: a version of NKI, its subset of Python, races."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

NkiVersion = Annotated[
    str | None,
    typer.Option(
        "--nki-version", help="Refuse what this version of NKI does not have: 0.2 to 0.7."
    ),
]
Subset = Annotated[
    str | None,
    typer.Option(
        "--subset", help="Find Python that NKI's compilers refuse: warn, error or off (default)."
    ),
]


Races = Annotated[
    str | None,
    typer.Option(
        "--races",
        help="Races of two cores and values lost in placed memory: error (default), warn or off.",
    ),
]


@contextmanager
def strictness(
    nki_version: str | None, subset: str | None, race_setting: str | None
) -> Iterator[None]:
    """Run kernels as strictly as the options say; print their warnings, each once."""
    from emuron.nki.race_checks import races
    from emuron.nki.subset import check_subset
    from emuron.nki.versions import strict

    with ExitStack() as stack:
        if nki_version is not None:
            stack.enter_context(strict(nki_version))
        if subset is not None:
            stack.enter_context(check_subset(subset))
        if race_setting is not None:
            stack.enter_context(races(race_setting))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")
        warnings.showwarning = _show  # type: ignore[assignment]
        yield


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object
) -> None:
    text = str(message)
    place = f"{Path(filename).name}:{lineno}: "
    typer.echo(f"Warning: {text if text.startswith(place) else place + text}", err=True)
