import runpy
from collections.abc import Mapping
from pathlib import Path

import pytest

from emuron.errors import UnknownNameError
from emuron.hardware import catalog
from emuron.hardware.chip import Chip
from emuron.hardware.core import NeuronCore
from emuron.hardware.instance import Instance
from emuron.hardware.record import to_record

GENERATIONS = ("v1", "v2", "v3", "v4")
ENTRIES: list[NeuronCore | Chip | Instance] = [
    *map(catalog.core_for, GENERATIONS),
    *catalog.chips(),
    *catalog.instances(),
]
# What a record holds beside figures of its own: sums of others, and notes.
NOT_STATED = {"sources", "alternatives", "topology", "core", "neighbours", "family"}
TOTALS = {
    "cores",
    "logical_cores",
    "hbm_bytes",
    "hbm_gb_per_s",
    "link_gb_per_s_per_chip",
    "peaks_tflops",
}


def numbers(value: object, path: str) -> list[str]:
    if isinstance(value, Mapping):
        return [leaf for key, below in value.items() for leaf in numbers(below, f"{path}.{key}")]
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return [leaf for i, below in enumerate(value) for leaf in numbers(below, f"{path}[{i}]")]
    holds_numbers = (
        value and all(isinstance(v, int | float) for v in value)
        if isinstance(value, list)
        else isinstance(value, int | float) and not isinstance(value, bool)
    )
    return [path.removeprefix(".")] if holds_numbers else []


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: getattr(entry, "name", None) or entry.version
)
def test_every_figure_has_a_source(entry: NeuronCore | Chip | Instance) -> None:
    left_out = NOT_STATED | (TOTALS if isinstance(entry, Instance) else set())
    if isinstance(entry, Chip):
        left_out = left_out | {"logical_cores", "dma_engines"}
    record = {key: value for key, value in to_record(entry).items() if key not in left_out}
    stated = dict(entry.sources)
    # Defaults (0, 1: the thing does not exist) stand in the code and state nothing.
    unsourced = [
        path
        for path in numbers(record, "")
        if path not in stated and value_at(record, path) not in (0, 1)
    ]
    assert unsourced == []


def value_at(record: object, path: str) -> object:
    for key in path.replace("[", ".").replace("]", "").split("."):
        record = record[int(key)] if isinstance(record, list) else record[key]  # type: ignore
    return record


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: getattr(entry, "name", None) or entry.version
)
def test_every_citation_is_known(entry: NeuronCore | Chip | Instance) -> None:
    names = {source.split()[0] for _, source in entry.sources}
    names |= {note.source.split()[0] for note in entry.alternatives}
    assert names - {"measured:", "assumed:", "fitted:"} <= set(catalog.citations())


def test_every_citation_is_used() -> None:
    used = {source.split()[0] for entry in ENTRIES for _, source in entry.sources}
    used |= {note.source.split()[0] for entry in ENTRIES for note in entry.alternatives}
    assert set(catalog.citations()) <= used


@pytest.mark.parametrize(
    ("target", "version"),
    [
        ("inf1", "v1"),
        ("inf2", "v2"),
        ("trn1", "v2"),
        ("gen2", "v2"),
        ("v2", "v2"),
        ("trn2", "v3"),
        ("gen3", "v3"),
        ("trn3", "v4"),
        ("gen4", "v4"),
        ("inferentia2", "v2"),
        ("inf2.48xlarge", "v2"),
        ("trn3-gen1-ultraserver", "v4"),
        ("TRN2", "v3"),
    ],
)
def test_core_for_understands_every_way_to_name_a_target(target: str, version: str) -> None:
    assert catalog.core_for(target).version == version


def test_core_for_takes_what_it_finds_too() -> None:
    instance = catalog.instance("trn2.48xlarge")
    assert catalog.core_for(instance) is catalog.core_for(instance.chip) is instance.chip.core
    assert catalog.core_for(instance.chip.core) is instance.chip.core


def test_inferentia2_and_trainium1_share_one_core() -> None:
    assert catalog.chip("inferentia2").core is catalog.chip("trainium1").core


@pytest.mark.parametrize(
    ("look_up", "name", "suggestion"),
    [
        (catalog.chip, "inferentia22", "inferentia2"),
        (catalog.instance, "inf2.xlrge", "inf2.xlarge"),
        (catalog.core_for, "trn22", "trn2"),
        (catalog.instances, "inf3", "inf2"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(look_up, name: str, suggestion: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean .*{suggestion}"):
        look_up(name)


def test_the_catalog_holds_five_chips_and_seventeen_instances() -> None:
    assert [chip.name for chip in catalog.chips()] == [
        "inferentia",
        "inferentia2",
        "trainium1",
        "trainium2",
        "trainium3",
    ]
    counts = {
        family: len(catalog.instances(family))
        for family in ("inf1", "inf2", "trn1", "trn2", "trn3")
    }
    assert counts == {"inf1": 4, "inf2": 4, "trn1": 3, "trn2": 4, "trn3": 2}
    assert len(catalog.instances()) == 17


def test_chips_are_loaded_once() -> None:
    assert catalog.chip("inf2") is catalog.chip("inferentia2")
    assert catalog.instance("inf2.xlarge").chip is catalog.chip("inf2")


def test_the_host_costs_come_with_the_instance() -> None:
    host = catalog.instance("inf2.xlarge").host
    assert host.framework_launch_us > 0
    assert host.sync_launch_us == 437  # vLLM on Neuron, public page


def test_the_reference_page_is_as_the_data_files_say() -> None:
    script = Path(__file__).parents[2] / "docs" / "generate_hardware.py"
    generated = runpy.run_path(str(script))
    message = "docs/reference/hardware.md is out of date: run python docs/generate_hardware.py"
    assert generated["PAGE"].read_text(encoding="utf-8") == generated["page"](), message
