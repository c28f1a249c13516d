"""The table of commands and its lazy loading."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec

import pytest
import typer
from typer.testing import CliRunner

from emuron.cli import commands
from emuron.cli.commands import COMMANDS, CommandLine, CommandTable


@pytest.fixture
def table(monkeypatch):
    """A table of one command and one group in a module made for the test."""
    module = types.ModuleType("made_for_the_test")

    def double(number: int) -> None:
        typer.echo(2 * number)

    module.double = double
    module.app = typer.Typer()
    module.app.command("halve")(lambda: typer.echo("halved"))
    monkeypatch.setitem(sys.modules, "made_for_the_test", module)
    lines = {
        "double": CommandLine("made_for_the_test:double", "Double a number."),
        "group": CommandLine("made_for_the_test:app", "A group."),
        "absent": CommandLine("no_such_module_here:main", "Not written."),
    }
    monkeypatch.setattr(commands, "COMMANDS", lines)
    app = typer.Typer(cls=CommandTable)
    app.callback()(lambda: None)
    return app


def invoke(app, *arguments):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "100", "TERM": "dumb"})


def test_a_command_is_loaded_and_gets_its_arguments(table):
    assert invoke(table, "double", "21").stdout == "42\n"


def test_a_group_keeps_its_commands_even_if_there_is_but_one(table):
    assert invoke(table, "group", "halve").stdout == "halved\n"


def test_the_help_of_a_command_is_its_own(table):
    shown = invoke(table, "double", "--help")
    assert shown.exit_code == 0
    assert "NUMBER" in shown.stdout.upper()


def test_a_module_that_is_missing_does_not_break_the_help(table):
    shown = invoke(table, "--help")
    assert shown.exit_code == 0
    assert "Not written." in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_help(name):
    module = COMMANDS[name].target.partition(":")[0]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not written yet")
    command = commands.load_command(name, COMMANDS[name])
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"], prog_name=f"emuron {name}")
    assert stop.value.code == 0
