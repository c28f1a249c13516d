"""Wall, paced and virtual time."""

import pytest

from emuron.errors import UnknownNameError
from emuron.serving.clock import PacedClock, VirtualClock, WallClock, make_clock

MS_PS = 10**9


class FakeComputer:
    """A computer whose time passes only when told."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000

    def read_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def test_a_paced_step_lasts_as_long_as_on_the_instance() -> None:
    computer = FakeComputer()
    clock = PacedClock(computer.read_ns, computer.sleep)
    computer.sleep(0.002)  # the evaluation takes 2 ms of the 10 ms
    assert clock.finish_step(0, 10 * MS_PS) == 10 * MS_PS
    assert clock.lag_ps == 0


def test_a_paced_step_that_comes_late_is_counted_as_lag() -> None:
    computer = FakeComputer()
    clock = PacedClock(computer.read_ns, computer.sleep)
    computer.sleep(0.015)
    assert clock.finish_step(0, 10 * MS_PS) == 15 * MS_PS
    assert clock.lag_ps == 5 * MS_PS


def test_the_wall_clock_ignores_the_instance() -> None:
    computer = FakeComputer()
    clock = WallClock(computer.read_ns, computer.sleep)
    computer.sleep(0.003)
    assert clock.finish_step(0, 10 * MS_PS) == 3 * MS_PS


def test_the_wall_clock_sleeps_until_a_moment() -> None:
    computer = FakeComputer()
    clock = WallClock(computer.read_ns, computer.sleep)
    clock.wait_until(7 * MS_PS)
    clock.wait_until(1 * MS_PS)
    assert clock.now_ps() == 7 * MS_PS


def test_virtual_time_jumps() -> None:
    clock = VirtualClock()
    assert clock.finish_step(clock.now_ps(), 3 * MS_PS) == 3 * MS_PS
    clock.wait_until(10 * MS_PS)
    assert clock.now_ps() == 10 * MS_PS


def test_an_unknown_clock_is_named() -> None:
    with pytest.raises(UnknownNameError, match="sundial"):
        make_clock("sundial")
    assert [make_clock(name).name for name in ("wall", "paced", "virtual")] == [
        "wall",
        "paced",
        "virtual",
    ]
