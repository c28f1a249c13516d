"""The table of commands: a line each, whose module is imported only when the command runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Where a command is written and what `emuron --help` says of it.

    `target` is `module:function`, or `module:app` where `app` is a `typer.Typer` that has commands
    of its own. `runs` marks a command whose arguments are a command: from its first word on,
    options are that one's.
    """

    target: str
    help: str
    panel: str = "Models"
    runs: bool = False


COMMANDS: Mapping[str, CommandLine] = MappingProxyType(
    {
        "demo": CommandLine("emuron.cli.demo:demo", "Show the main job on a real model.", "Start"),
        "run": CommandLine(
            "emuron.cli.run:run", "Run a model on an instance: outputs, latency and price."
        ),
        "compile": CommandLine(
            "emuron.cli.compile:compile_command", "Compile a model into an executable file."
        ),
        "profile": CommandLine(
            "emuron.cli.profile:profile", "Show where the time of a model goes, layer by layer."
        ),
        "compare": CommandLine(
            "emuron.cli.compare:compare", "Compare instances for a model: time, memory and price."
        ),
        "debug": CommandLine(
            "emuron.cli.debug:debug", "Find the layer and the cast that make values drift."
        ),
        "validate": CommandLine(
            "emuron.cli.validate:validate", "Predict a table of measurements and print the error."
        ),
        "kernel": CommandLine(
            "emuron.cli.kernel:app", "Run and profile NKI kernels written by hand.", "Kernels"
        ),
        "exec": CommandLine(
            "emuron.cli.exec:exec_command",
            "Run a script that imports nki, unmodified.",
            "Kernels",
            runs=True,
        ),
        "serve": CommandLine(
            "emuron.cli.serve:serve", "Serve a language model over the OpenAI API.", "Serving"
        ),
        "chips": CommandLine("emuron.cli.chips:chips", "List the chips and figures.", "Hardware"),
        "instances": CommandLine(
            "emuron.cli.instances:instances", "List the instances and their prices.", "Hardware"
        ),
    }
)


def load_command(name: str, line: CommandLine) -> Any:
    """Import what `line` points at and return it as a command named `name`."""
    module, _, attribute = line.target.partition(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        return typer.main.get_group(target)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = {"ignore_unknown_options": True, "allow_interspersed_args": False}
    app.command(name=name, context_settings=settings if line.runs else None)(target)
    return typer.main.get_command(app)


class LazyCommand(TyperCommand):
    """A command known by its line in the table; parsing its arguments loads the command itself."""

    def __init__(self, name: str, line: CommandLine) -> None:
        super().__init__(
            name, help=line.help, short_help=line.help, rich_help_panel=line.panel, callback=None
        )
        self.line = line

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Load the command and let it parse `args`; the context belongs to the loaded command."""
        command = load_command(self.name or self.line.target, self.line)
        return command.make_context(info_name, args, parent=parent, **extra)


class CommandTable(TyperGroup):
    """The group of all commands, in the order of the table."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({name: LazyCommand(name, line) for name, line in COMMANDS.items()})
