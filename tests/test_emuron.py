"""The package itself: what importing it costs and which names it offers."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import emuron
from emuron.errors import EXTRA_OF_MODULE

LIST_MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"
PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules of a fresh interpreter that ran `statement`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; {LIST_MODULES}"],
        capture_output=True,
        check=True,
        text=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_importing_emuron_imports_no_extra_and_not_even_numpy():
    imported = modules_after("import emuron")
    assert imported.isdisjoint(EXTRA_OF_MODULE)
    assert "numpy" not in imported


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'emuron' has no attribute 'nonsense'"):
        _ = emuron.nonsense


@pytest.mark.parametrize("name", sorted(set(emuron.__all__) - {"__version__"}))
def test_every_public_name_is_found_where_the_table_says(name):
    module = emuron._MODULE_OF_NAME[name]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not written yet")
    assert getattr(emuron, name).__module__.startswith("emuron.")
    assert name in dir(emuron)


def test_the_version_is_that_of_a_release():
    assert [int(part) >= 0 for part in emuron.__version__.split(".")] == [True] * 3


def test_every_extra_that_an_error_can_name_is_declared():
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    assert set(EXTRA_OF_MODULE.values()) <= set(project["optional-dependencies"])
