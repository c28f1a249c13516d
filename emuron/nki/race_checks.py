"""What happens when two accesses race: an error, a warning or nothing.

`races` sets it for the kernels launched inside, EMURON_RACES in the environment for all.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from emuron.errors import RaceError, RaceWarning, UnknownNameError

RACES_VARIABLE = "EMURON_RACES"
SETTINGS = ("error", "warn", "off")

_set: ContextVar[str | None] = ContextVar("races", default=None)


@contextmanager
def races(setting: str) -> Iterator[None]:
    """Let races in the kernels launched inside be an "error" (the default), "warn", or be "off".

    Raises UnknownNameError for another setting.
    """
    token = _set.set(_known(setting))
    try:
        yield
    finally:
        _set.reset(token)


def race_reporter() -> Callable[[str], None] | None:
    """Return what is called with the message of each race; None if none are looked for."""
    setting = _set.get() or _known(os.environ.get(RACES_VARIABLE, "error"))
    return {"error": _raise, "warn": warn_race, "off": None}[setting]


def _known(setting: str) -> str:
    if setting not in SETTINGS:
        raise UnknownNameError("setting of races", setting, SETTINGS)
    return setting


def _raise(message: str) -> None:
    raise RaceError(message)


def warn_race(message: str) -> None:
    """Warn of a race."""
    warnings.warn(message, RaceWarning, stacklevel=3)
