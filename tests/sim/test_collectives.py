"""How long collectives take: against the sums of hardware.md section 5, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.collectives as ncc
import emuron.nki.language as nl
from emuron.errors import UsageError
from emuron.hardware import catalog
from emuron.isa.instruction import CollectiveCost
from emuron.sim.collectives import duration_us
from emuron.sim.timing import TimingSimulator

TRN2 = catalog.chip("trn2")
MIB = 1 << 20


def us(kind, size, ranks, chip=TRN2, lnc=2, **options):
    return duration_us(CollectiveCost(kind, size, ranks, **options), chip, lnc)


def test_a_small_message_takes_the_floor():
    assert us("all_gather", 64, 4) == pytest.approx(TRN2.collectives.floor_us, rel=1e-3)


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_time_grows_with_bytes_and_a_coalesced_tensor_adds_no_latency(kind):
    times = [us(kind, size, 16) for size in (1 << 10, MIB, 16 * MIB, 256 * MIB)]
    assert times == sorted(times)
    assert times[-1] > 2 * times[0]
    saved = us(kind, MIB // 2, 4) - us(kind, MIB // 2, 4, coalesced=True)
    assert saved == pytest.approx(TRN2.collectives.floor_us)


def test_an_all_reduce_moves_its_data_twice():
    """Without latency: reduce-scatter, then all-gather, over the same links."""
    gather = us("all_gather", 256 * MIB, 64, coalesced=True)
    reduce = us("all_reduce", 256 * MIB, 64, coalesced=True)
    assert reduce >= 2 * gather * 0.99


def test_ranks_on_several_chips_are_bound_by_their_links():
    """16 chips: 15/16 of 64 MiB enter each chip over 80 % of its links."""
    links = TRN2.links.intra_gb_per_s * 0.8
    by_hand = 64 * MIB * 15 / 16 / (links * 1000)
    assert us("all_to_all", 64 * MIB, 64, coalesced=True) == pytest.approx(4 * by_hand)


def test_ranks_on_one_chip_use_no_links():
    """4 ranks of 2 cores: one read and one write of 3/4 of the bytes, a memory stack for each."""
    stack = TRN2.hbm_stack_gb_per_s * 0.92 / 2
    dma = TRN2.core.dma.core_gb_per_s * 2
    by_hand = 64 * MIB * 3 / 4 / (min(stack, dma) * 1000)
    assert us("all_gather", 64 * MIB, 4, coalesced=True) == pytest.approx(by_hand)


def test_rings_take_a_hop_for_each_rank_where_nothing_better_is_known():
    inf2 = catalog.chip("inf2")
    more = us("all_gather", 0, 4, inf2, 1) - us("all_gather", 0, 2, inf2, 1)
    assert more == pytest.approx(2 * inf2.collectives.ring_hop_us)


@pytest.mark.parametrize(
    ("name", "ranks", "hops"),
    [
        ("inf2.48xlarge", 24, 1 + 11),  # two cores, a ring of 12 chips
        ("inf2.48xlarge", 8, 1 + 3),
        ("trn1.32xlarge", 32, 1 + 3 + 3),  # two cores, a torus of 4 x 4 chips
        ("trn1.32xlarge", 8, 1 + 3),
        ("trn1.32xlarge", 16, 1 + 1 + 3),
        ("trn1.32xlarge", 2, 1),
    ],
)
def test_rings_go_along_each_axis_of_an_instance(name: str, ranks: int, hops: int) -> None:
    target = catalog.instance(name)
    spec = target.chip.collectives
    cost = CollectiveCost("all_reduce", 0, ranks)
    found = duration_us(cost, target.chip, 1, target.topology)
    assert found == pytest.approx(spec.floor_us + 2 * hops * spec.ring_hop_us)


def test_a_bare_core_has_no_links_to_time():
    def kernel(x):
        y = nl.zeros(x.shape, x.dtype, buffer=nl.shared_hbm)
        ncc.all_reduce([y], [y], ncc.ReplicaGroup([[0]]), nl.add)

    run = nki.run_kernel(kernel, [np.zeros((2, 2), np.float32)])
    with pytest.raises(UsageError, match="all_reduce runs over the links of a chip"):
        TimingSimulator(run.chip.core).run(run.program)
