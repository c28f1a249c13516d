"""Each instruction has its tests, on each generation, and its place in the reference."""

from __future__ import annotations

import runpy
from importlib import import_module
from pathlib import Path

import pytest

import emuron.nki.isa  # noqa: F401  registers every instruction
from emuron.hardware.catalog import citations
from emuron.isa.instruction import REGISTRY

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
# Instructions of several cores, and those that no kernel names: tested by module, not one by one.
BY_MODULE = ("collectives", "control", "permutes", "rank_collectives", "variable_collectives")


def module_of(mnemonic):
    return REGISTRY[mnemonic].__module__.rpartition(".")[2]


SINGLE = sorted(name for name in REGISTRY if module_of(name) not in BY_MODULE)


@pytest.mark.parametrize("mnemonic", SINGLE)
def test_an_instruction_has_a_property_checked_on_every_generation(mnemonic):
    tests = vars(import_module(f"tests.isa.test_{mnemonic}")).values()
    assert any(getattr(test, "covers", None) == mnemonic for test in tests)


@pytest.mark.parametrize("mnemonic", sorted(set(REGISTRY) - set(SINGLE)))
def test_an_instruction_of_several_cores_is_named_in_a_test(mnemonic):
    named = (f"{mnemonic}(", REGISTRY[mnemonic].__name__)
    texts = (path.read_text(encoding="utf-8") for path in HERE.parent.rglob("test_*.py"))
    assert any(name in text for text in texts for name in named)


@pytest.mark.parametrize("mnemonic", SINGLE)
def test_an_instruction_names_its_source(mnemonic):
    assert REGISTRY[mnemonic].source.split()[0] in citations()


def test_the_reference_is_as_the_classes_say(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    generated = runpy.run_path(str(DOCS / "generate_instructions.py"))
    message = "out of date: run python docs/generate_instructions.py"
    assert generated["PAGE"].read_text(encoding="utf-8") == generated["page"](), message
