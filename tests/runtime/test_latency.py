"""The host's part of an inference."""

from __future__ import annotations

from fractions import Fraction

import pytest

from emuron.hardware.catalog import instance
from emuron.runtime.latency import Latency, Work, latency_of


def test_copies_take_their_bytes_over_the_host_dma() -> None:
    inf2 = instance("inf2.xlarge")
    found = latency_of(inf2, Work(5_000_000_000, 10**6, (3 * 10**6,)))
    per_us = Fraction(inf2.chip.host_dma_gb_per_s) * 1000
    assert found.device_us == 5000
    assert found.copy_in_us == pytest.approx(float(10**6 / per_us))
    assert found.copy_out_us == pytest.approx(3 * found.copy_in_us)


def test_the_total_is_the_sum_of_its_parts() -> None:
    inf2 = instance("inf2.xlarge")
    found = latency_of(inf2, Work(0, 0))
    assert found.total_us == found.launch_us + found.floor_us
    assert found.launch_us == inf2.host.framework_launch_us


def test_throughput_counts_every_core_and_every_sample() -> None:
    small, large = (instance(f"inf2.{size}") for size in ("xlarge", "48xlarge"))
    one, many = (latency_of(i, Work(10**9, 0)) for i in (small, large))
    assert one.throughput_per_s(1) == pytest.approx(2e6 / one.total_us)
    assert many.throughput_per_s(4) == pytest.approx(24 * 4e6 / many.total_us)


def test_workers_that_share_a_core_wait_for_what_their_host_leaves_uncovered() -> None:
    alone = latency_of(instance("inf2.xlarge"), Work(5_000_000_000, 0))
    on_core, around = alone.device_us + alone.floor_us, alone.total_us - alone.device_us
    shared = alone.shared(workers=4, cores=2)
    # Two on each core: the other's program runs while this one is with its host.
    assert shared.total_us == pytest.approx(2 * on_core)
    assert around - alone.floor_us < on_core
    assert shared.throughput_per_s(1) == pytest.approx(2e6 / on_core)
    assert alone.shared(workers=2, cores=2).total_us == alone.total_us
    assert alone.shared(workers=1, cores=2).total_us == alone.total_us


def test_a_short_program_is_hidden_behind_the_hosts_of_its_core() -> None:
    alone = latency_of(instance("inf2.xlarge"), Work(1_000_000, 0))
    assert alone.shared(workers=4, cores=2).total_us == pytest.approx(alone.total_us)


def test_networks_that_run_in_turn_add_up() -> None:
    inf2 = instance("inf2.xlarge")
    short, long = (latency_of(inf2, Work(ps, 10**6)) for ps in (10**9, 10**10))
    both = Latency.in_turn([(short, 50), (long, 1)])
    assert both.total_us == pytest.approx(50 * short.total_us + long.total_us)
    assert both.p99_us == pytest.approx(both.total_us + inf2.host.tail_us)


def test_a_large_output_is_copied_into_pages_mapped_anew() -> None:
    inf2 = instance("inf2.xlarge")
    limit = inf2.host.mapped_from_bytes
    small, large = (latency_of(inf2, Work(0, 0, (size,))) for size in (limit, limit + 1))
    page = limit / (inf2.host.mapped_copy_gb_per_s * 1000)
    assert large.copy_out_us - small.copy_out_us == pytest.approx(page, rel=1e-3)
    many = latency_of(inf2, Work(0, 0, (limit, limit)))
    assert many.copy_out_us == pytest.approx(2 * small.copy_out_us)
