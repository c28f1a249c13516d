"""Properties that hold on every generation of NeuronCore that has an instruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.hardware import catalog
from emuron.hardware.chip import NeuronCore
from emuron.isa.instruction import instruction_class

FLOATS = ["float32", "bfloat16", "float16"]
KINDS = [*FLOATS, "int32", "int16", "int8", "uint8", "uint32"]


def cores(mnemonic: str) -> list[NeuronCore]:
    """The cores that have an instruction, one of each generation that runs NKI kernels."""
    since = instruction_class(mnemonic).since
    found = [catalog.chip(name).core for name in ("trn1", "trn2", "trn3")]
    return [core for core in found if (core.nc_version or 0) >= since]


def on_every_generation(mnemonic: str, examples: int = 12, **drawn: Any) -> Callable[..., Any]:
    """Run a test, a property of the drawn arguments, on each core that has the instruction.

    The test takes `core` first. `tests/isa/test_registry.py` counts on each instruction's having
    such a test.
    """

    def decorate(test: Callable[..., None]) -> Any:
        limited = settings(max_examples=examples, deadline=None, derandomize=True)
        made = limited(given(**drawn)(test))
        made.covers = mnemonic  # type: ignore[attr-defined]
        having = cores(mnemonic)
        return pytest.mark.parametrize("core", having, ids=[c.version for c in having])(made)

    return decorate


@dataclass(frozen=True)
class Layout:
    """How a tile [P, N] lies in a larger tensor."""

    start: int = 0  # first partition
    offset: int = 0  # elements before it in a partition
    step: int = 1  # from one element to the next
    extra: int = 0  # elements after it
    split: bool = False  # as [P, 2, N / 2] where N is even


layouts = st.builds(
    Layout,
    start=st.sampled_from([0, 32, 64, 96]),
    offset=st.integers(0, 3),
    step=st.sampled_from([1, 1, 2, 3]),
    extra=st.integers(0, 2),
    split=st.booleans(),
)

shapes = st.tuples(st.integers(1, 6), st.integers(1, 7))
seeds = st.integers(0, 99)
places = st.sampled_from(["sbuf", "psum"])
