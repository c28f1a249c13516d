"""What predicting any row of a table begins with: its instance, its model, its unit, its doubts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from emuron.compiler.frontends.zoo import zoo, zoo_name
from emuron.errors import UnknownNameError, UsageError
from emuron.hardware.catalog import instance as find_instance
from emuron.hardware.instance import Instance
from emuron.planner.measurements import Measurement

Units = Mapping[str, Mapping[str, float]]
"""Metrics that are predicted, and their units in a second or per second."""

DEFAULT_AUTOCAST = "matmult-bf16"
"""What compile_model does where nothing is said."""


def target_of(row: Measurement) -> Instance:
    """Return a row's instance; raise UsageError for one that is not modelled, or too few cores."""
    try:
        target = find_instance(row.instance)
    except UnknownNameError as error:
        raise UsageError(f"instance {row.instance!r} is not in the catalog") from error
    if row.cores is not None and row.cores > target.cores:
        raise UsageError(f"{row.cores} cores stated, but {target.name} has {target.cores}")
    return target


def zoo_model(row: Measurement, families: Sequence[str]) -> tuple[str, list[str]]:
    """Return the zoo's name of the model that a row means, and notes on how it was found.

    Raises UsageError for a model that the zoo does not have, or that is of none of the families.
    """
    named = re.search(r"\(([\w./-]+)\)\s*$", row.model)
    name = named[1] if named else row.model
    found = zoo_name(name) or _base_of(name)
    if found is None:
        task = f" (task: {row.task})" if row.task else ""
        raise UsageError(f"{name}{task} is not among the native models of the zoo")
    family = zoo()[found].family
    if family not in families:
        raise UsageError(f"{found}, {_article(family)} model, has no {row.metric} to predict")
    return found, [] if zoo_name(name) else [f"predicted as {found}, without a head"]


def _article(family: str) -> str:
    return f"{'an' if family[0] in 'aeiou' else 'a'} {family}"


def _base_of(name: str) -> str | None:
    """Return the zoo model that a fine-tuned one is named after."""
    short = name.rsplit("/", 1)[-1].lower()
    bases = [known for known in zoo() if short.startswith(f"{known}-")]
    return max(bases, key=len, default=None)


def autocast_of(row: Measurement) -> tuple[str, str, list[str]]:
    """Return mode and type of a row's auto-cast, and a note where it was taken for granted."""
    notes = [] if row.autocast else [f"auto-cast not stated, {DEFAULT_AUTOCAST} assumed"]
    mode, _, cast = (row.autocast.lower() or DEFAULT_AUTOCAST).partition("-")
    return mode, cast or "bf16", notes


def check_metric(row: Measurement, units: Units) -> float:
    """Return the factor of a row's unit; raise UsageError for what is not predicted or wrong."""
    if row.metric not in units:
        *most, last = units
        known = f"{', '.join(most)} and {last}"
        raise UsageError(f"metric {row.metric!r} is not predicted, only {known} are")
    if row.unit not in units[row.metric]:
        known = ", ".join(units[row.metric])
        raise UsageError(f"unit {row.unit!r} of {row.metric} is unknown (known: {known})")
    if row.value <= 0:
        raise UsageError(f"a measured {row.metric} of {row.value:g} cannot be right")
    return units[row.metric][row.unit]


def doubts(row: Measurement, target: Instance) -> list[str]:
    """Return what a prediction rests on that no measurement has calibrated or that is in doubt."""
    notes = []
    source = dict(target.sources).get("host.framework_launch_us", "")
    if not source.startswith("fitted: on rows"):
        notes.append(f"extrapolated: nothing was fitted on {target.family}")
    if "SUSPECT" in row.remark:
        notes.append("the table marks the row as suspect")
    return notes
