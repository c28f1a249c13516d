"""What a kernel gets that reads memory which nothing wrote: an error, or poison.

The hardware gives whatever lies there; AWS's simulator gives NaN, and 4 for integers, so that a
kernel which moves such bytes about but never uses them still runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from emuron.errors import UnknownNameError

MODES = ("error", "poison")
UNWRITTEN_VARIABLE = "EMURON_UNWRITTEN"

_mode: ContextVar[str | None] = ContextVar("unwritten", default=None)


@contextmanager
def unwritten(mode: str) -> Iterator[None]:
    """Let the kernels launched inside meet "error" (UninitializedReadError) or "poison".

    Raises UnknownNameError for another mode. Outside, EMURON_UNWRITTEN counts, else "error".
    """
    token = _mode.set(_known(mode))
    try:
        yield
    finally:
        _mode.reset(token)


def gives_poison() -> bool:
    """Return whether a kernel launched now reads poison where nothing was written."""
    return (_mode.get() or _known(os.environ.get(UNWRITTEN_VARIABLE, "error"))) == "poison"


def _known(mode: str) -> str:
    if mode not in MODES:
        raise UnknownNameError("way to treat unwritten memory", mode, MODES)
    return mode
