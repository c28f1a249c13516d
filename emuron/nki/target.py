"""Which chip a kernel is written for, inside and outside of its run."""

from __future__ import annotations

import os

from emuron.hardware import catalog
from emuron.hardware.chip import Chip
from emuron.hardware.core import NeuronCore
from emuron.nki.recorder import active_recorder

DEFAULT_TARGET = "trn2"
TARGET_VARIABLE = "NEURON_PLATFORM_TARGET_OVERRIDE"

_CHIP_OF_GENERATION = {"gen2": "inf2", "gen3": "trn2", "gen4": "trn3"}


def target_chip(target: str | Chip | None = None) -> Chip:
    """Return the chip to run on: `target`, else the environment's, else trn2.

    `target` is a chip ("trn2"), a generation ("gen3") or an instance ("inf2.xlarge"). The variable
    NEURON_PLATFORM_TARGET_OVERRIDE is read as AWS's compiler does. Raises UnknownNameError.
    """
    if isinstance(target, Chip):
        return target
    name = target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET
    name = _CHIP_OF_GENERATION.get(name, name)
    return catalog.instance(name).chip if "." in name else catalog.chip(name)


def current_core() -> NeuronCore:
    """Return the core of the active kernel; outside of one, that of the default target."""
    recorder = active_recorder()
    return target_chip().core if recorder is None else recorder.core
