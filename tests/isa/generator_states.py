"""Which engines have a generator whose state can be read and set, and its words a lane."""

from __future__ import annotations

from emuron.hardware import catalog
from emuron.hardware.chip import NeuronCore

GENERATORS = [
    ("trn2", "gpsimd", 6),
    ("trn3", "gpsimd", 6),
    ("trn3", "vector", 24),
]


def generators(core: NeuronCore) -> list[tuple[str, int]]:
    """Those of one core."""
    return [(e, words) for name, e, words in GENERATORS if catalog.chip(name).core is core]
