"""The command line: help, errors and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from emuron.cli import main
from emuron.cli.commands import COMMANDS
from emuron.errors import EXTRA_OF_MODULE, CapacityError, UnknownNameError

PLAIN_TERMINAL = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
FORCED_COLOURS = {"FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"}


def emuron(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an interpreter of its own."""
    inherited = {key: value for key, value in os.environ.items() if key not in FORCED_COLOURS}
    return subprocess.run(
        [sys.executable, "-m", "emuron", *arguments],
        capture_output=True,
        check=False,
        text=True,
        env=inherited | PLAIN_TERMINAL | environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def failing(monkeypatch):
    """Make the whole command line raise a given error."""

    def fail(error: Exception) -> None:
        def command(_app):
            class Command:
                def main(self, **_):
                    raise error

            return Command()

        monkeypatch.delenv("EMURON_DEBUG", raising=False)
        monkeypatch.setattr(main.typer.main, "get_command", command)

    return fail


def test_help_lists_every_command_with_its_line():
    done = emuron("--help")
    assert done.returncode == 0
    for name, line in COMMANDS.items():
        assert name in done.stdout
        assert line.help in done.stdout


def test_help_imports_neither_an_extra_nor_numpy():
    script = (
        "import json, sys\n"
        "from emuron.cli.main import run\n"
        "try: run(['--help'])\n"
        "except SystemExit: print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    imported = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert imported.isdisjoint({*EXTRA_OF_MODULE, "numpy", "jinja2"})


def test_the_version_is_printed():
    done = emuron("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("emuron ")


def test_an_unknown_command_suggests_the_closest_one_and_exits_with_2():
    done = emuron("chip")
    assert done.returncode == 2
    assert "Did you mean 'chips'?" in done.stderr
    assert done.stdout == ""


def test_a_wrong_argument_is_one_paragraph_on_stderr_and_exits_with_2(failing, capsys):
    failing(UnknownNameError("chip", "trn9", ["trn1", "trn2"]))
    with pytest.raises(SystemExit) as stop:
        main.run([])
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("Error: Unknown chip 'trn9'.")
    assert printed.err.count("\n") == 1


def test_any_other_error_of_ours_exits_with_1(failing, capsys):
    failing(CapacityError("nc_matmul: dst needs 20 KiB,\n  a partition has 16"))
    with pytest.raises(SystemExit) as stop:
        main.run([])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "Error: nc_matmul: dst needs 20 KiB, a partition has 16\n"


def test_a_missing_optional_module_names_the_extra(failing, capsys):
    failing(ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn"))
    with pytest.raises(SystemExit) as stop:
        main.run([])
    assert stop.value.code == 1
    assert "pip install 'emuron[serve]'" in capsys.readouterr().err


def test_an_unexpected_error_asks_for_a_report_and_shows_no_traceback(failing, capsys):
    failing(ZeroDivisionError("integer division by zero"))
    with pytest.raises(SystemExit) as stop:
        main.run([])
    error = capsys.readouterr().err
    assert stop.value.code == 70
    assert "ZeroDivisionError: integer division by zero" in error
    assert "report it" in error
    assert "Traceback" not in error


def test_a_debug_run_shows_the_traceback(failing, monkeypatch):
    failing(ZeroDivisionError("integer division by zero"))
    monkeypatch.setenv("EMURON_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main.run([])


def test_brackets_in_a_message_are_printed_as_they_are(failing, capsys):
    failing(CapacityError("tensor[bold] of shape [128, 512]"))
    with pytest.raises(SystemExit):
        main.run([])
    assert capsys.readouterr().err == "Error: tensor[bold] of shape [128, 512]\n"
