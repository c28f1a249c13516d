"""Copies of public repositories, named by environment variables; without one its tests skip."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def copy_of(variable: str) -> Path:
    """Return the copy of a repository that a variable names; skip the test if there is none."""
    named = os.environ.get(variable)
    if not named:
        pytest.skip(f"{variable} is not set")
    return Path(named)


@pytest.fixture
def run_driver(tmp_path) -> Callable[..., str]:
    """Run a script of a copied folder under `emuron exec`; return what it printed.

    The folder is copied once more: some scripts write beside themselves.
    """

    def run(folder: Path, script: str, *arguments: str, code: int = 0) -> str:
        for file in folder.glob("*.py"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        done = subprocess.run(
            [sys.executable, "-m", "emuron", "exec", "python", script, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout + done.stderr

    return run
