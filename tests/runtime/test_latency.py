"""The host's part of an inference."""

from __future__ import annotations

from fractions import Fraction

import pytest

from emuron.hardware.catalog import instance
from emuron.runtime.latency import Work, latency_of


def test_copies_take_their_bytes_over_the_host_dma() -> None:
    inf2 = instance("inf2.xlarge")
    found = latency_of(inf2, Work(5_000_000_000, 10**6, 3 * 10**6))
    per_us = Fraction(inf2.chip.host_dma_gb_per_s) * 1000
    assert found.device_us == 5000
    assert found.copy_in_us == pytest.approx(float(10**6 / per_us))
    assert found.copy_out_us == pytest.approx(3 * found.copy_in_us)


def test_the_total_is_the_sum_of_its_parts() -> None:
    inf2 = instance("inf2.xlarge")
    found = latency_of(inf2, Work(0, 0, 0))
    assert found.total_us == found.launch_us + found.floor_us
    assert found.launch_us == inf2.host.framework_launch_us


def test_throughput_counts_every_core_and_every_sample() -> None:
    small, large = (instance(f"inf2.{size}") for size in ("xlarge", "48xlarge"))
    one, many = (latency_of(i, Work(10**9, 0, 0)) for i in (small, large))
    assert one.throughput_per_s(1) == pytest.approx(2e6 / one.total_us)
    assert many.throughput_per_s(4) == pytest.approx(24 * 4e6 / many.total_us)
