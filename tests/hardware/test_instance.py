import pickle

import pytest

from emuron.errors import UnknownNameError
from emuron.hardware.catalog import instance, instances
from emuron.hardware.instance import Instance
from emuron.hardware.price import usd_per_million

EVERY_INSTANCE = pytest.mark.parametrize("entry", instances(), ids=lambda entry: entry.name)


@pytest.mark.parametrize(
    ("name", "cores", "vcpu", "host_gib", "device_gib", "kind"),
    [
        # Docs, about-neuron/arch/neuron-hardware: inf1, inf2, trn1, trn2, trn3 architecture.
        ("inf1.xlarge", 4, 4, 8, 8, "single"),
        ("inf1.24xlarge", 64, 96, 192, 128, "chain"),
        ("inf2.xlarge", 2, 4, 16, 32, "single"),
        ("inf2.8xlarge", 2, 32, 128, 32, "single"),
        ("inf2.24xlarge", 12, 96, 384, 192, "chain"),
        ("inf2.48xlarge", 24, 192, 768, 384, "ring"),
        ("trn1.32xlarge", 32, 128, 512, 512, "torus2d_4x4"),
        ("trn2.48xlarge", 128, 192, 2048, 1536, "torus2d_4x4"),
        ("trn2-ultraserver", 512, 768, 8192, 6144, "torus3d_4x4x4"),
        ("trn3-gen1-ultraserver", 512, 768, 8192, 9216, "switched"),
        ("trn3-gen2-ultraserver", 1152, 2304, 27648, 20736, "switched"),
    ],
)
def test_instances_are_as_their_pages_say(
    name: str, cores: int, vcpu: int, host_gib: int, device_gib: int, kind: str
) -> None:
    entry = instance(name)
    assert (entry.cores, entry.vcpu, entry.host_gib) == (cores, vcpu, host_gib)
    assert entry.hbm_bytes == device_gib * 1024**3
    assert entry.topology.kind == kind


@pytest.mark.parametrize(
    ("name", "kind", "usd"),
    [
        # The newest of each kind: fmbench of 2025 for on-demand, the docs' tables for reserved.
        ("inf2.xlarge", "on_demand", 0.7582),
        ("inf2.xlarge", "ri_effective", 0.328),
        ("inf2.xlarge", "sagemaker", 0.99),
        ("inf2.48xlarge", "on_demand", 12.98127),
        ("inf1.xlarge", "on_demand", 0.228),
        ("trn1.32xlarge", "on_demand", 21.5),
        ("trn1.32xlarge", "capacity_block", 15.49),
        ("trn2.3xlarge", "capacity_block", 2.25),
    ],
)
def test_price_is_the_newest_of_its_kind(name: str, kind: str, usd: float) -> None:
    price = instance(name).price(kind)
    assert price is not None
    assert price.usd_per_hour == usd


def test_the_docs_own_price_of_inf2_is_kept_beside_the_newer_one() -> None:
    rates = {p.usd_per_hour for p in instance("inf2.xlarge").prices if p.kind == "on_demand"}
    assert rates == {0.758, 0.7582}
    assert usd_per_million(2674.19, min(rates)) == pytest.approx(0.0787, abs=5e-5)


def test_an_unknown_price_is_none_and_an_unknown_kind_an_error() -> None:
    assert instance("trn2.48xlarge").price("on_demand") is None
    with pytest.raises(UnknownNameError, match="Did you mean on_demand"):
        instance("inf2.xlarge").price("ondemand")


def test_nobody_offers_the_estimate_for_trn2() -> None:
    price = instance("trn2.48xlarge").price("estimate")
    block = instance("trn2.3xlarge").price("capacity_block")
    assert price is not None
    assert block is not None
    assert price.usd_per_hour == 16 * block.usd_per_hour
    assert price.source.startswith("assumed:")


@EVERY_INSTANCE
def test_every_instance_has_as_many_chips_as_its_topology(entry: Instance) -> None:
    assert entry.topology.chips == entry.chips
    assert entry.family == entry.name.rstrip("n").split(".")[0].split("-")[0].rstrip("nu")


@EVERY_INSTANCE
def test_only_instances_of_several_chips_have_links(entry: Instance) -> None:
    assert (entry.link_gb_per_s_per_chip is None) == (entry.chips == 1)


def test_trn1n_doubles_the_links_of_trn1() -> None:
    single = instance("trn1.32xlarge").link_gb_per_s_per_chip
    double = instance("trn1n.32xlarge").link_gb_per_s_per_chip
    assert (single, double) == (384 * 1024**3 / 1e9, 768 * 1024**3 / 1e9)


def test_numa_nodes_split_the_chips() -> None:
    nodes = instance("trn2.48xlarge").numa_nodes
    assert sorted(chip for node in nodes for chip in node) == list(range(16))


def test_peaks_add_up_over_chips() -> None:
    assert instance("inf2.48xlarge").peak_tflops("bfloat16") == 2280  # docs: 2.3 PFLOPS
    assert instance("inf1.xlarge").peak_tflops("float32") is None


@EVERY_INSTANCE
def test_instances_are_values(entry: Instance) -> None:
    copy = pickle.loads(pickle.dumps(entry))
    assert copy == entry
    assert hash(copy) == hash(entry)
