"""What the tests of whole kernels share: running one with and without data; public copies.

Copies of public repositories are named by environment variables; without one its tests skip.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emuron.nki as nki
from emuron.nki.arguments import mapped
from emuron.numerics.dtypes import dtype

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


@pytest.fixture
def both_ways() -> Callable[..., Any]:
    """Run a kernel with data and record it without; return what the first gave.

    Both must issue the same instructions. `registers` is what registers hold without data.
    """

    def run(kernel: Any, *args: Any, on: str = "trn2", lnc: int = 1, registers: Any = None) -> Any:
        shapes = mapped(
            args,
            lambda value: isinstance(value, np.ndarray),
            lambda value, _: nki.ShapeDtype(value.shape, dtype(value.dtype)),
        )
        launched = nki.jit(kernel)[lnc]
        assumed = nullcontext() if registers is None else nki.assume_registers(registers)
        with assumed:
            without = nki.run_kernel(launched, shapes, target=on, execute=False)
        with_data = nki.run_kernel(launched, args, target=on)
        for some, other in zip(with_data.programs, without.programs, strict=True):
            assert mnemonics(some) == mnemonics(other)
        assert without.timing.total_ps > 0
        return with_data.outputs

    return run


def mnemonics(program: Any) -> list[str]:
    """Return the names of a program's instructions, in order."""
    return [program.forms[f].mnemonic for block, _ in program.leaves() for f in block.form]
