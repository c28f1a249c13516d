"""How strictly a command takes kernels: one version of NKI, the compilers' subset of Python."""

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


@contextmanager
def strictness(nki_version: str | None, subset: str | None) -> Iterator[None]:
    """Run kernels as strictly as the options say; print their warnings, each once."""
    from emuron.nki.subset import check_subset
    from emuron.nki.versions import strict

    with ExitStack() as stack:
        if nki_version is not None:
            stack.enter_context(strict(nki_version))
        if subset is not None:
            stack.enter_context(check_subset(subset))
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
