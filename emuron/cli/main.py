"""The `emuron` command: parses, dispatches, turns errors into a paragraph and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from emuron import __version__
from emuron.cli.commands import CommandTable
from emuron.cli.output import print_error
from emuron.errors import EmuronError, UsageError, missing_extra

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_BUG = 70
"""EX_SOFTWARE of sysexits.h: an internal error."""

app = typer.Typer(
    cls=CommandTable,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"emuron {__version__}")
        raise typer.Exit


@app.callback()
def emuron(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Simulate AWS Inferentia and Trainium: numbers, time and price of a model or a kernel."""


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (`sys.argv` by default) and exit with its code.

    0 is success, 2 a wrong argument, 1 any other failure, 70 a bug of emuron.
    EMURON_DEBUG=1 shows tracebacks.
    """
    try:
        typer.main.get_command(app).main(
            args=None if arguments is None else list(arguments), prog_name="emuron"
        )
    except Exception as error:
        if os.environ.get("EMURON_DEBUG") == "1":
            raise
        sys.exit(report(error))
    sys.exit(0)


def report(error: Exception) -> int:
    """Print what `error` means to the user in one paragraph on stderr; return the exit code."""
    if isinstance(error, ImportError):
        error = missing_extra(error, "This command") or error
    if isinstance(error, EmuronError):
        print_error(str(error))
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE
    print_error(
        f"emuron {__version__} met an error it did not expect, which is a bug: "
        f"{type(error).__name__}: {error}. Please report it with the command you ran; "
        "EMURON_DEBUG=1 in the environment shows where it happened."
    )
    return EXIT_BUG
