"""Some of nki-library's own tests, unmodified, from a copy; `make conformance` runs all that are
listed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conformance.conftest import ROOT, copy_of

pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.mark.parametrize("file", ["test_rope_hf", "test_tp_broadcast", "test_collectives"])
def test_cases_of_a_public_file_pass(tmp_path, file):
    pytest.importorskip("torch")
    pytest.importorskip("fabric2", reason="needs the conformance extra")
    copy_of("EMURON_NKI_LIBRARY")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tools.conformance", "--only", file, "--cases", "4"),
            *("--output", str(tmp_path)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (found,) = json.loads((tmp_path / "results.json").read_text())["files"]
    assert found["passed"] >= 2
    assert found["failed"] == 0
