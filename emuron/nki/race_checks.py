"""What happens when two accesses race, or a value is lost: an error, a warning or nothing.

`races` sets it for the kernels launched inside, EMURON_RACES in the environment for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from emuron.errors import EmuronError, RaceWarning, UnknownNameError
from emuron.nki.source_places import warn_at_line

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


def _setting() -> str:
    return _set.get() or _known(os.environ.get(RACES_VARIABLE, "error"))


def duplicate_reporter(place: Callable[[], str]) -> Callable[[str], None] | None:
    """Return what warns, once for each `place`, of values that one transfer puts in one place.

    None if races are off. It never raises: kernels let padding rows go to one that nobody reads.
    """
    told: set[str] = set()

    def report(message: str) -> None:
        if place() not in told:
            told.add(place())
            warn_at_line(message, RaceWarning)

    return None if _setting() == "off" else report


def reporter(error: type[EmuronError]) -> Callable[[str], None] | None:
    """Return what is called with the message of each race; None if none are looked for.

    It raises `error` or warns.
    """
    setting = _setting()

    def report(message: str) -> None:
        if setting == "error":
            raise error(message)
        warn_at_line(message, RaceWarning)

    return None if setting == "off" else report


def _known(setting: str) -> str:
    if setting not in SETTINGS:
        raise UnknownNameError("setting of races", setting, SETTINGS)
    return setting
