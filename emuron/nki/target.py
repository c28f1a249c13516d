"""Which chip a kernel is written for, inside and outside of its run."""

from __future__ import annotations

import os
import warnings

from emuron.errors import UsageError
from emuron.hardware import catalog
from emuron.hardware.chip import Chip
from emuron.hardware.core import NeuronCore
from emuron.nki.recorder import active_recorder

DEFAULT_TARGET = "trn2"
TARGET_VARIABLE = "NEURON_PLATFORM_TARGET_OVERRIDE"
GENERATION_VARIABLE = "NKI_NC_VERSION"
LNC_VARIABLE = "NEURON_LOGICAL_NC_CONFIG"
PRECISION_VARIABLE = "NKI_PRECISE_FP"

_CHIP_OF_GENERATION = {"gen2": "inf2", "gen3": "trn2", "gen4": "trn3"}


def target_chip(target: str | Chip | None = None) -> Chip:
    """Return the chip to run on: `target`, else the environment's, else trn2.

    `target` is a chip ("trn2"), a generation ("gen3") or an instance ("inf2.xlarge"). The variables
    are NEURON_PLATFORM_TARGET_OVERRIDE, which AWS's compiler reads too, and then NKI_NC_VERSION, of
    its simulator before the release. Raises UnknownNameError.
    """
    if isinstance(target, Chip):
        return target
    name = target or _named() or DEFAULT_TARGET
    name = _CHIP_OF_GENERATION.get(name, name)
    return catalog.instance(name).chip if "." in name else catalog.chip(name)


def _named() -> str | None:
    return os.environ.get(TARGET_VARIABLE) or os.environ.get(GENERATION_VARIABLE)


def check_environment(kernel: str, grid: int | None) -> None:
    """Refuse a launch on other logical cores than NEURON_LOGICAL_NC_CONFIG asks for.

    Warns where NKI_PRECISE_FP=0 asks not to round. Raises UsageError.
    """
    runtime = os.environ.get(LNC_VARIABLE)
    if runtime and grid is not None and runtime != str(grid):
        raise UsageError(
            f"{kernel}[{grid}] is launched on {grid} physical cores, and {LNC_VARIABLE}={runtime}: "
            "the device would refuse it. Launch on as many as the variable says, or unset it."
        )
    if os.environ.get(PRECISION_VARIABLE) == "0":
        warnings.warn(
            f"{PRECISION_VARIABLE}=0 has no effect: numbers are rounded as the hardware does.",
            stacklevel=2,
        )


def current_core() -> NeuronCore:
    """Return the core of the active kernel; outside of one, that of the default target."""
    recorder = active_recorder()
    return target_chip().core if recorder is None else recorder.core
