from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def doubled(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out, src=tile)
    return out

x = np.ones((128, 64), np.float32)
assert (doubled(x) == 2).all()
assert (nki.simulate(doubled)(x) == 2).all()
print("the script's own words", nisa.get_nc_version())
"""


def execute(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `emuron exec` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "emuron", "exec", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_an_unmodified_script_runs_and_its_kernels_are_listed(script):
    done = execute("python", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the script's own words 3\n"
    assert "doubled" in done.stderr
    assert "µs" in done.stderr


def test_json_follows_the_output_and_has_a_time_for_every_launch(script, tmp_path):
    report = tmp_path / "report.json"
    done = execute("--json", "--report", report, "--target", "trn3", "python", script)
    words, _, document = done.stdout.partition("\n")
    assert words == "the script's own words 4"
    found = json.loads(document)
    assert found == json.loads(report.read_text())
    first, second = found["launches"]
    assert first == second
    assert (first["kernel"], first["target"], first["instructions"]) == ("doubled", "trainium3", 3)
    assert first["time_us"] > 1


def test_options_after_the_command_are_its_own_and_its_exit_code_is_passed_on(tmp_path):
    (tmp_path / "test_one.py").write_text("import nki\ndef test_no(): assert nki.jit is None\n")
    done = execute("pytest", "-q", "--tb=no", "-p", "no:cacheprovider", tmp_path / "test_one.py")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "No kernel was launched." in done.stderr


def test_a_command_that_does_not_exist_is_named():
    done = execute("no-such-command")
    assert done.returncode == 2
    assert "There is no command 'no-such-command'" in done.stderr


def test_an_unknown_target_is_told_before_the_command_runs(script):
    done = execute("--target", "trn9", "python", script)
    assert done.returncode == 2
    assert "Unknown chip 'trn9'" in done.stderr
    assert "own words" not in done.stdout


def test_the_environments_own_sitecustomize_still_runs(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('custom')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = execute("python", "-c", "import nki; print(nki.__name__)", PYTHONPATH=path)
    assert done.stdout.splitlines()[-2:] == ["custom", "nki"]
