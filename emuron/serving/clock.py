"""Three clocks for one engine: real time, the instance's pace, and model time alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from emuron.errors import UnknownNameError

PS_PER_S = 1_000_000_000_000
_PS_PER_NS = 1000


class Clock(Protocol):
    """What the engine asks of time; every moment is an integer number of picoseconds."""

    name: str
    lag_ps: int

    def now_ps(self) -> int:
        """Return the present moment."""

    def finish_step(self, start_ps: int, step_ps: int) -> int:
        """End a step that takes `step_ps` on the instance; return the moment of its end."""

    def wait_until(self, moment_ps: int) -> None:
        """Pass idle time."""


class WallClock:
    """Real time: a step takes as long as this computer takes, whatever the instance would."""

    name = "wall"

    def __init__(
        self,
        read_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start at zero; `read_ns` and `sleep` (seconds) are the computer's own clock."""
        self._read_ns = read_ns
        self._sleep = sleep
        self._origin_ns = read_ns()
        self.lag_ps = 0

    def now_ps(self) -> int:
        """Return the time since the clock was made."""
        return (self._read_ns() - self._origin_ns) * _PS_PER_NS

    def finish_step(self, start_ps: int, step_ps: int) -> int:
        """Return now."""
        return self.now_ps()

    def wait_until(self, moment_ps: int) -> None:
        """Sleep until the moment; return at once if it has passed."""
        while (left_ps := moment_ps - self.now_ps()) > 0:
            self._sleep(left_ps / PS_PER_S)


class PacedClock(WallClock):
    """Real time, but no step ends before the instance would have ended it.

    A step that this computer needs longer for ends late; `lag_ps` sums up by how much.
    """

    name = "paced"

    def finish_step(self, start_ps: int, step_ps: int) -> int:
        """Sleep through what is left of the step and return its end."""
        end_ps = start_ps + step_ps
        late_ps = self.now_ps() - end_ps
        if late_ps > 0:
            self.lag_ps += late_ps
        else:
            self.wait_until(end_ps)
        return self.now_ps()


class VirtualClock:
    """Model time alone: steps and idle time pass at once, and take exactly what the timer says."""

    name = "virtual"

    def __init__(self) -> None:
        """Start at zero."""
        self._now_ps = 0
        self.lag_ps = 0

    def now_ps(self) -> int:
        """Return the model time."""
        return self._now_ps

    def finish_step(self, start_ps: int, step_ps: int) -> int:
        """Jump to the end of the step."""
        self._now_ps = start_ps + step_ps
        return self._now_ps

    def wait_until(self, moment_ps: int) -> None:
        """Jump to the moment."""
        self._now_ps = max(self._now_ps, moment_ps)


CLOCK_NAMES = ("wall", "paced", "virtual")


def make_clock(name: str) -> Clock:
    """Return a new clock, `wall`, `paced` or `virtual`; raise UnknownNameError otherwise."""
    if name == "wall":
        return WallClock()
    if name == "paced":
        return PacedClock()
    if name == "virtual":
        return VirtualClock()
    raise UnknownNameError("clock", name, CLOCK_NAMES)
