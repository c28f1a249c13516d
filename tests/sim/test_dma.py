"""Costs of single transfers and the rings they go to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emuron.hardware.chip import Chip
from emuron.isa.instruction import DmaCost
from emuron.isa.tensor import AccessPattern
from emuron.sim.dma import transfer
from emuron.sim.queues import RING_USES
from emuron.sim.sites import Sites
from emuron.sim.timing_layout import FRACTION, ONE
from tests.sim.programs import ProgramWriter


def cost(bytes_: int, descriptors: int, **options: object) -> DmaCost:
    element = bytes_ // descriptors
    return replace(DmaCost(bytes_, descriptors, element, bytes_), **options)  # type: ignore[arg-type]


def test_large_elements_move_at_the_cap_of_the_core() -> None:
    spec = ProgramWriter().core.dma
    found = transfer(cost(128 * 32768, 128), spec)
    assert found.work_ps == pytest.approx(128 * 32768 / spec.core_gb_per_s * 1000, abs=1)
    assert found.largest_share == ONE


def test_elements_of_64_bytes_take_the_time_of_a_descriptor() -> None:
    spec = ProgramWriter().core.dma
    found = transfer(cost(128 * 64, 128), spec)
    assert found.work_ps == round(128 / spec.engines * spec.small_element_min_ns * 1000)


def test_few_descriptors_use_few_engines() -> None:
    spec = ProgramWriter().core.dma
    found = transfer(cost(4 * 4096, 4), spec)
    assert found.largest_share == ONE * 4 // spec.engines
    alone_ps = found.work_ps * ONE / found.largest_share
    one_engine_gb_per_s = spec.core_gb_per_s / spec.engines
    assert alone_ps == pytest.approx(4096 / one_engine_gb_per_s * 1000, rel=1e-4)


def test_seventeen_descriptors_take_two_rounds() -> None:
    spec = ProgramWriter().core.dma
    sixteen, seventeen = (transfer(cost(n * 4096, n), spec).work_ps for n in (16, 17))
    assert seventeen == pytest.approx(2 * sixteen, abs=1)


def test_few_partitions_use_few_engines() -> None:
    """DMAO: each engine serves 8 partitions."""
    spec = ProgramWriter().core.dma
    found = transfer(cost(20 * 4096, 20, partitions=20), spec)
    assert found.largest_share == ONE * 3 // spec.engines


def test_rows_apart_in_hbm_cost_a_jump_each() -> None:
    spec = ProgramWriter().core.dma
    together, apart = cost(128 * 256, 128), cost(128 * 256, 128, hbm_jumps=127)
    more_ps = transfer(apart, spec).work_ps - transfer(together, spec).work_ps
    assert more_ps == pytest.approx(8 * spec.hbm_jump_ns * 1000, abs=1)


def test_a_transpose_at_half_rate_takes_twice_the_work() -> None:
    spec = ProgramWriter().core.dma
    plain, slow = cost(128 * 4096, 128), cost(128 * 4096, 128, rate=0.5)
    assert transfer(slow, spec).work_ps == pytest.approx(2 * transfer(plain, spec).work_ps, abs=1)


def test_hbm_traffic_is_that_of_both_sides() -> None:
    spec = ProgramWriter().core.dma
    both = transfer(cost(128 * 4096, 128, hbm_bytes=2 * 128 * 4096), spec)
    rate_gb_per_s = both.hbm_rate / (1 << FRACTION) * 1000
    assert rate_gb_per_s == pytest.approx(2 * spec.core_gb_per_s, rel=1e-4)


def test_fixed_times_add_up_and_software_descriptors_come_later() -> None:
    spec = ProgramWriter().core.dma
    static = transfer(cost(4096, 1), spec)
    software = transfer(cost(4096, 1, trigger="swdge"), spec)
    assert static.before_ps + static.after_ps == round(spec.fixed_ns * 1000)
    assert software.before_ps - static.before_ps == round(spec.swdge_extra_ns * 1000)


def test_hardware_descriptors_limit_how_often_a_ring_triggers(chip: Chip) -> None:
    spec = chip.core.dma
    found = transfer(cost(4096, 1, trigger="hwdge"), spec)
    if spec.hwdge_ns is not None:
        assert found.issue_ps == round(spec.hwdge_ns * 1000)


def test_each_use_has_its_rings_and_takes_them_in_turn() -> None:
    writer = ProgramWriter()
    x, source = writer.sbuf("x", 64), writer.hbm("h", (128, 64), "input")
    rings = writer.core.dma.queues_per_engine // len(RING_USES)
    for _ in range(rings + 1):
        writer.load(x, source)
    writer.store(writer.hbm("output", (128, 64)), x)
    sites = Sites(writer.program())
    names = [sites.queue_names[queue] for queue in sites.queue]
    assert len(set(names[:rings])) == rings
    assert names[0] == names[rings]
    assert names[-1] not in names[:-1]


def test_a_transfer_goes_to_the_ring_of_its_use() -> None:
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 64), writer.sbuf("y", 64)
    writer.load(x, writer.hbm("weights", (128, 64), "parameter"))
    writer.load(x, writer.hbm("input", (128, 64), "input"))
    writer.store(writer.hbm("output", (128, 64)), x)
    writer.transfer(AccessPattern(y), AccessPattern(x))
    names = Sites(writer.program()).queue_names
    assert names[len(writer.core.engines) :] == [
        "dma-weights0",
        "dma-loads0",
        "dma-stores0",
        "dma-copies0",
    ]
