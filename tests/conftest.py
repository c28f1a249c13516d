"""What every test shares: the chips and the golden files.

Fixtures of one package live in that package's conftest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from emuron.hardware import catalog
from emuron.hardware.chip import Chip

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the files in tests/golden and run only the tests that compare with them",
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ["EMURON_CACHE"] = "off"  # no test may find what an earlier run left


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--update-golden"):
        items[:] = [item for item in items if "golden" in getattr(item, "fixturenames", ())]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name in tests/golden; `make golden` rewrites it."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path.name} is missing: run `make golden` and read what it wrote"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(params=["trn1", "trn2", "trn3"])
def chip(request: pytest.FixtureRequest) -> Chip:
    """One chip of each generation that runs NKI kernels, in turn."""
    return catalog.chip(request.param)
