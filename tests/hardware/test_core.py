import pickle
from dataclasses import replace

import pytest

from emuron.errors import HardwareLimitError, UnknownNameError
from emuron.hardware.catalog import core_for
from emuron.hardware.core import NeuronCore

GENERATIONS = ("v1", "v2", "v3", "v4")


@pytest.fixture(params=GENERATIONS)
def core(request: pytest.FixtureRequest) -> NeuronCore:
    return core_for(request.param)


@pytest.mark.parametrize(
    ("version", "clocks"),
    [
        # Docs, trainium_inferentia2_arch, trainium2_arch, trainium3_arch: engine tables.
        ("v2", {"tensor": 2.8, "vector": 1.12, "scalar": 1.4, "gpsimd": 1.4}),
        ("v3", {"tensor": 2.4, "vector": 0.96, "scalar": 1.2, "gpsimd": 1.2}),
        ("v4", {"tensor": 2.4, "vector": 1.2, "scalar": 1.2, "gpsimd": 1.2}),
    ],
)
def test_engine_clocks_are_the_documented_ones(version: str, clocks: dict[str, float]) -> None:
    core = core_for(version)
    assert {name: core.engine(name).clock_ghz for name in clocks} == clocks


@pytest.mark.parametrize(
    ("version", "sbuf_kib", "sbuf_mib"), [("v2", 192, 24), ("v3", 224, 28), ("v4", 256, 32)]
)
def test_sbuf_is_as_large_as_documented(version: str, sbuf_kib: int, sbuf_mib: int) -> None:
    core = core_for(version)
    assert core.sbuf_bytes_per_partition == sbuf_kib * 1024
    assert core.sbuf_bytes == sbuf_mib * 1024**2


def test_psum_is_two_mebibytes_in_eight_banks(core: NeuronCore) -> None:
    assert core.psum_bytes == 2 * 1024**2
    assert core.psum_banks * core.psum_bank_bytes == core.psum_bytes_per_partition


def test_no_more_sbuf_is_usable_than_there_is(core: NeuronCore) -> None:
    assert 0 < core.sbuf_usable_bytes_per_partition <= core.sbuf_bytes_per_partition


@pytest.mark.parametrize(
    ("version", "dtype", "tflops"),
    [
        # Docs: 92, 79 and 79 BF16, 23 and 20 FP32, 158 FP8, 315 MXFP8 TFLOPS a core, rounded.
        ("v2", "bfloat16", 92),
        ("v2", "float32", 23),
        ("v2", "float8_e4m3", 92),
        ("v3", "bfloat16", 79),
        ("v3", "float32", 20),
        ("v3", "float8_e4m3", 157),
        ("v3", "float8_e3m4", 79),
        ("v4", "bfloat16", 79),
        ("v4", "float8_e4m3fn_x4", 315),
        ("v1", "bfloat16", 16),
        ("v1", "int8", 33),
    ],
)
def test_the_tensor_engine_peaks_where_documented(version: str, dtype: str, tflops: int) -> None:
    assert round(core_for(version).tensor_tflops(dtype)) == tflops


def test_a_type_that_is_not_multiplied_has_no_peak() -> None:
    with pytest.raises(HardwareLimitError, match="NeuronCore-v2 does not multiply int8"):
        core_for("v2").tensor_tflops("int8")


def test_cycles_become_whole_picoseconds() -> None:
    assert core_for("v3").engine("tensor").ps(512) == 213_333  # 512 / 2.4 GHz
    assert core_for("v2").engine("scalar").ps(64) == 45_714  # 64 / 1.4 GHz


def test_an_unknown_engine_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean vector"):
        core_for("v2").engine("vectr")
    with pytest.raises(UnknownNameError):
        core_for("v1").engine("gpsimd")  # NeuronCore-v1 has none


@pytest.mark.parametrize(
    ("partitions", "allowed"),
    [
        (1, (0, 32, 64, 96)),
        (32, (0, 32, 64, 96)),
        (33, (0, 64)),
        (64, (0, 64)),
        (65, (0,)),
        (128, (0,)),
    ],
)
def test_start_partitions_follow_the_documented_rule(
    core: NeuronCore, partitions: int, allowed: tuple[int, ...]
) -> None:
    assert core.limits.start_partitions_for(partitions) == allowed


def test_an_access_of_too_many_partitions_is_refused() -> None:
    with pytest.raises(HardwareLimitError, match="spans 129 partitions; the hardware has 128"):
        core_for("v2").limits.start_partitions_for(129)


def test_every_instruction_takes_at_least_64_cycles(core: NeuronCore) -> None:
    assert core.timing.min_issue_cycles == 64  # ISA26: MIN_II of about 64 cycles


def test_every_engine_has_a_latency(core: NeuronCore) -> None:
    assert all(core.timing.latency_ns(engine.name) >= 0 for engine in core.engines)


def test_only_trn2_and_trn3_throttle_after_idling() -> None:
    assert [core_for(v).timing.throttle is not None for v in GENERATIONS] == [
        False,
        False,
        True,
        True,
    ]


def test_dma_fixed_cost_covers_what_comes_before_and_after(core: NeuronCore) -> None:
    dma = core.dma
    assert dma.fixed_before_ns + dma.fixed_after_ns <= dma.fixed_ns
    assert dma.core_gb_per_s <= dma.engines * dma.engine_theory_gb_per_s


@pytest.mark.parametrize(
    ("version", "per_engine", "per_core"), [("v2", 17, 272), ("v3", 23, 368), ("v4", 33, 528)]
)
def test_documented_dma_rates(version: str, per_engine: int, per_core: int) -> None:
    dma = core_for(version).dma  # nki-dma-bandwidth-guide: bytes/ns an engine, GB/s a core
    assert dma.engine_effective_gb_per_s == per_engine
    assert dma.engines * dma.engine_effective_gb_per_s == per_core


def test_activation_functions_that_share_a_table() -> None:
    core = core_for("v2")
    assert core.activation_table("gelu") == core.activation_table("gelu_apprx_tanh")
    assert core.activation_table("exp") != core.activation_table("tanh")
    assert core.activation_table("copy") is None
    assert core.activation_table("made_up") == "made_up"


def test_no_activation_function_is_in_two_tables(core: NeuronCore) -> None:
    functions = [name for table in core.activation_tables for name in table]
    functions += core.activation_any_table
    assert len(set(functions)) == len(functions)


def test_cores_are_values(core: NeuronCore) -> None:
    copy = pickle.loads(pickle.dumps(core))
    assert copy == core
    assert hash(copy) == hash(core)
    changed = replace(core, timing=replace(core.timing, semaphore_ns=26.0))
    assert changed != core


def test_a_core_tells_the_source_of_a_figure() -> None:
    core = core_for("v2")
    assert core.source("engines.tensor.clock_ghz").startswith("A2")
    assert core.source("timing.semaphore_ns").startswith("PERF")
    with pytest.raises(UnknownNameError, match=r"timing\.semaphore_ns"):
        core.source("timing.semaphores_ns")


def test_a_pair_of_cores_launches_slower_than_one(core: NeuronCore) -> None:
    assert core.timing.neff_floor_us(1) == 12  # intercepts of public kernel times, trn2
    assert core.timing.neff_floor_us(2) == 29
