"""The stand-ins in a child process each, so that no other test meets them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str, *path: Path, **environment: str) -> str:
    """Return what a fresh interpreter prints."""
    folders = os.pathsep.join(map(str, [*path, ROOT]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": folders, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "import nki.language as nl, nki.isa as nisa; from nki.isa.constants import oob_mode",
        "import nki_cpu_simulator.nki.isa.constants, nki_cpu_simulator.nki.language.dtypes",
        "from neuronxcc.nki.typing import mutable_tensor",
        "from neuronxcc.starfish.support.dtype import static_cast",
        "from neuron_dtypes import bfloat16, static_cast, sizeinbytes, is_float_type, finfo",
        "from nki.typing import tensor; tensor[128, 512] | None",
        "import nki; nki.dtype | None; assert nki.dtype.float8_e4m3 == nki.language.float8_e4m3",
        "from nki.meta.tensor import NkiTensor; import nki.tensor",
    ],
)
def test_public_imports_work_after_importing_compat(statement):
    run(f"import emuron.compat; {statement}")


def test_without_compat_there_is_no_nki():
    assert "No module" in run(
        "import emuron.nki\ntry: import nki\nexcept ImportError as error: print(error)"
    )


def test_an_installed_package_wins_and_is_not_mixed_with_the_stand_in(tmp_path):
    (tmp_path / "nki").mkdir()
    (tmp_path / "nki" / "__init__.py").write_text("origin = 'installed'")
    code = "import emuron.compat, nki; print(nki.origin)\ntry: import nki.language\n"
    assert run(f"{code}except ImportError as error: print(error)", tmp_path).splitlines() == [
        "installed",
        "No module named 'nki.language'",
    ]


def test_an_installed_package_is_shadowed_when_asked(tmp_path):
    (tmp_path / "nki.py").write_text("origin = 'installed'")
    code = "import emuron.compat, nki; print(nki.jit.__module__)"
    assert run(code, tmp_path, EMURON_SHADOW="nki") == "emuron.nki.kernel"


def test_an_unknown_package_to_shadow_is_named():
    code = "import emuron.compat\ntry: emuron.compat.install(['nkl'])\n"
    message = run(f"{code}except Exception as error: print(error)")
    assert message.startswith("Unknown stand-in package 'nkl'. Did you mean nki?")


def test_parts_of_a_stand_in_are_reached_as_attributes():
    code = "import emuron.compat, nki; print(nki.isa.constants.oob_mode.skip, nki.language.sbuf)"
    assert run(code) == "skip sbuf"
