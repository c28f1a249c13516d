"""The kernel's own source line, for errors and warnings."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import TracebackType

from emuron.errors import DeadlockError, EmuronError, RaceError, UninitializedReadError
from emuron.nki.recorder import PACKAGE, Recorder


def name_line(error: EmuronError, recorder: Recorder) -> None:
    """Put the kernel's own source line, innermost, and the core before an error's message.

    A race or a deadlock concerns several lines, which its message names.
    """
    if isinstance(error, RaceError | DeadlockError):
        return
    place = source_place(error.__traceback__)
    if place is not None and error.args:
        seat = recorder.seat
        if seat is not None and seat.name:
            place = f"{place} ({seat.name})"
        message = f"{place}: {error.args[0]}"
        shared = seat is not None and seat.cores > 1 and "shared_hbm" in message
        if shared and isinstance(error, UninitializedReadError):
            message += " If the other core writes it, put nisa.core_barrier between the two."
        error.args = (message, *error.args[1:])


def source_place(traceback: TracebackType | None) -> str | None:
    """Return "file.py:line" of the innermost frame outside of this package."""
    place = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            place = f"{Path(file).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def warn_at_line(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line outside of this package that is being run."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno)
