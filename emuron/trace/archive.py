"""Traces on disk: one .npz of plain arrays and a JSON header, read back without pickle."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any
from zipfile import BadZipFile

import numpy as np

from emuron.errors import UsageError
from emuron.trace.atomic import replacing
from emuron.trace.trace import COLUMN_TYPES, Repeat, Trace

_FORMAT = 2
_DAMAGED = (KeyError, ValueError, TypeError, OSError, EOFError, BadZipFile, zlib.error)


def save_trace(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write `trace` to `path` (an .npz), whole or not at all."""
    header = {
        "format": _FORMAT,
        "queue_names": trace.queue_names,
        "labels": trace.labels,
        "groups": trace.groups,
        "total_ps": trace.total_ps,
        "metadata": dict(trace.metadata),
        "repeats": [tuple(r) for r in trace.repeats],
        "counters": list(trace.counters),
    }
    arrays = {name: getattr(trace, name) for name in COLUMN_TYPES}
    for number, (times, values) in enumerate(trace.counters.values()):
        arrays[f"counter_{number}_t_ps"], arrays[f"counter_{number}_value"] = times, values
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace that `save_trace` wrote; a UsageError says what is wrong with any other file."""
    try:
        # NumPy leaves a file open that it opened itself and found to be no archive.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return _trace(archive)
    except _DAMAGED as error:
        raise UsageError(
            f"{os.fspath(path)} is no trace that this version reads ({error}). Record it again."
        ) from error


def _trace(archive: Any) -> Trace:
    header = json.loads(archive["header"].tobytes())
    if header["format"] != _FORMAT:
        raise ValueError(f"format {header['format']}, not {_FORMAT}")
    counters = {
        name: (archive[f"counter_{number}_t_ps"], archive[f"counter_{number}_value"])
        for number, name in enumerate(header["counters"])
    }
    return Trace(
        queue_names=tuple(header["queue_names"]),
        labels=tuple(header["labels"]),
        groups=tuple(header["groups"]),
        counters=counters,
        total_ps=int(header["total_ps"]),
        metadata=header["metadata"],
        repeats=tuple(Repeat(*map(int, r)) for r in header["repeats"]),
        **{name: archive[name] for name in COLUMN_TYPES},
    )
