"""Chips and instances as plain data (JSON types), for `--json` and the reference tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from emuron.hardware.chip import Chip
from emuron.hardware.core import NeuronCore
from emuron.hardware.instance import Instance

# Tuples that are tables: (key, value) pairs, or dataclasses that carry a name.
PAIRS = frozenset({"sources", "peaks_tflops"})
NAMED = frozenset({"engines"})


def to_record(entry: NeuronCore | Chip | Instance) -> dict[str, Any]:
    """Return all figures of `entry`, its sources and alternatives, and its totals, as JSON types.

    An instance's record holds its chip by name; `emuron chips NAME --json` has the rest.
    """
    record: dict[str, Any] = _plain(entry, "")
    if isinstance(entry, Instance):
        record["chip"] = entry.chip.name
        totals = ("cores", "logical_cores", "hbm_bytes", "hbm_gb_per_s", "link_gb_per_s_per_chip")
        record |= {name: getattr(entry, name) for name in totals}
        record["peaks_tflops"] = {
            dtype: entry.peak_tflops(dtype) for dtype, _ in entry.chip.peaks_tflops
        }
        record["neighbours"] = [
            list(entry.topology.neighbours(chip)) for chip in range(entry.chips)
        ]
    if isinstance(entry, Chip):
        record |= {name: getattr(entry, name) for name in ("logical_cores", "dma_engines")}
    return record


def figures(entry: NeuronCore | Chip | Instance) -> Iterator[tuple[str, object, str]]:
    """Yield each figure that has a source: dotted path, value, source; without those of a part."""
    leaves = dict(_leaves(_plain(entry, "")))
    for path, source in entry.sources:
        if path in leaves:
            yield path, leaves[path], source


def _plain(value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name), field.name)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, date):
        return value.isoformat()
    if not isinstance(value, tuple):
        return value
    if name in PAIRS:
        return {key: _plain(entry, "") for key, entry in value}
    if name in NAMED:
        return {entry.name: _plain(entry, "") for entry in value}
    return [_plain(entry, "") for entry in value]


def _leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in record.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, entry in enumerate(value):
                yield from _leaves(entry, f"{path}[{i}].")
        else:
            yield path, value
