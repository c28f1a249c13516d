"""What the tests of instructions share: a bench on each chip generation, with each back end."""

from __future__ import annotations

import pytest

from emuron.hardware import catalog
from emuron.hardware.chip import Chip
from tests.isa.bench import Bench


@pytest.fixture
def bench(chip: Chip) -> Bench:
    """A bench on one chip of each generation, in turn."""
    return Bench(chip.core)


@pytest.fixture
def trn2() -> Bench:
    return Bench(catalog.chip("trn2").core)


@pytest.fixture
def trn1() -> Bench:
    return Bench(catalog.chip("trn1").core)


@pytest.fixture
def trn3() -> Bench:
    return Bench(catalog.chip("trn3").core)
