"""The page docs/kernels.md: its files are written, its commands run, in their order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from emuron.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
BLOCK = re.compile(r'^```(python title="([\w.]+)"|console)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
REFUSED = 1


@pytest.fixture
def shell(tmp_path, monkeypatch, capfd):
    """Run a command of the page in its folder; return its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")

    def run(command):
        words, _, target = command.partition(" > ")
        code = _own_process(words) if words.startswith("emuron exec") else _in_this(words)
        out, err = capfd.readouterr()
        if target:
            (tmp_path / target).write_text(out)
        return code, out + err

    return run


def _own_process(words):
    program = [sys.executable, "-m", *shlex.split(words)]
    return subprocess.run(program, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode


def _in_this(words):
    with pytest.raises(SystemExit) as left:
        main.run(shlex.split(words)[1:])
    return left.value.code or 0


def test_the_page_does_what_it_says(tmp_path, shell):
    commands = 0
    for kind, file, text in BLOCK.findall(PAGE):
        if kind != "console":
            (tmp_path / file).write_text(text)
            continue
        for part in text.split("$ ")[1:]:
            command, *expected = part.strip().splitlines()
            code, printed = shell(command)
            commands += 1
            assert code == (REFUSED if "refused.py" in command else 0), printed
            assert "sitecustomize" not in printed
            for line in expected:
                assert line in printed, f"{command} does not print {line!r}:\n{printed}"
    assert commands >= 8
