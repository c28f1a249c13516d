import pytest

from emuron.errors import UnknownNameError
from emuron.hardware.catalog import chip, chips
from emuron.hardware.chip import Chip

EVERY_CHIP = pytest.mark.parametrize("entry", chips(), ids=lambda entry: entry.name)


@pytest.mark.parametrize(
    ("name", "cores", "gib", "bf16", "fp32"),
    [
        # Docs, about-neuron/arch/neuron-hardware: the page of each chip.
        ("inferentia", 4, 8, 64, None),
        ("inferentia2", 2, 32, 190, 47.5),
        ("trainium1", 2, 32, 190, 47.5),
        ("trainium2", 8, 96, 667, 181),
        ("trainium3", 8, 144, 671, 183),
    ],
)
def test_chips_are_as_their_pages_say(
    name: str, cores: int, gib: int, bf16: float, fp32: float | None
) -> None:
    entry = chip(name)
    assert (entry.cores, entry.hbm_bytes) == (cores, gib * 1024**3)
    assert (entry.peak_tflops("bfloat16"), entry.peak_tflops("float32")) == (bf16, fp32)


@pytest.mark.parametrize(
    ("name", "gb_per_s", "others"),
    [
        ("inferentia2", 820, {820 * 1024**3 / 1e9, 800}),  # GB/s, GiB/s and 0.8 TB/s are stated
        ("trainium2", 2900, {3000}),
        ("trainium3", 4900, {4700}),
    ],
)
def test_memory_bandwidth_keeps_what_sources_state_otherwise(
    name: str, gb_per_s: float, others: set[float]
) -> None:
    entry = chip(name)
    assert entry.hbm_gb_per_s == gb_per_s
    noted = {note.value for note in entry.alternatives if note.path == "hbm_gb_per_s"}
    assert sorted(noted) == pytest.approx(sorted(others), rel=1e-6)  # six digits are kept


@pytest.mark.parametrize(
    ("name", "gib_per_s"), [("inferentia", 32), ("inferentia2", 192), ("trainium1", 384)]
)
def test_links_of_the_first_chips_are_stated_in_gibibytes(name: str, gib_per_s: int) -> None:
    assert chip(name).links.intra_gb_per_s == gib_per_s * 1024**3 / 1e9


@pytest.mark.parametrize(
    ("name", "microseconds"), [("inferentia", 16), ("inferentia2", 4), ("trainium2", 2)]
)
def test_host_copies_take_the_time_the_driver_expects(name: str, microseconds: int) -> None:
    # Driver: time-out estimates for 64 KiB.
    assert 65536 / chip(name).host_dma_gb_per_s / 1000 == pytest.approx(microseconds, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "engines"), [("inferentia", 12), ("inferentia2", 32), ("trainium2", 128)]
)
def test_dma_engines_of_a_chip(name: str, engines: int) -> None:
    assert chip(name).dma_engines == engines


def test_two_cores_of_trn2_share_a_stack_of_725_gb_per_s() -> None:
    trainium2 = chip("trainium2")
    assert (trainium2.cores_per_stack, trainium2.hbm_stack_gb_per_s) == (2, 725)
    assert trainium2.logical_cores == 4


@EVERY_CHIP
def test_advertised_peaks_are_no_less_than_the_tensor_engines(entry: Chip) -> None:
    peak = entry.peak_tflops("bfloat16")
    assert peak is not None
    tensor_engines = entry.cores * entry.core.tensor_tflops("bfloat16")
    assert tensor_engines * 0.97 < peak < tensor_engines * 1.1  # 64 rounds 65.5; others add lanes


@EVERY_CHIP
def test_memory_streams_at_most_its_peak(entry: Chip) -> None:
    assert 0.5 < entry.hbm_efficiency <= 1
    assert entry.lnc_default in entry.lnc_sizes


def test_a_chip_tells_the_source_of_a_figure() -> None:
    assert chip("trn2").source("hbm_bytes") == "HW trainium2: 96 GiB"
    with pytest.raises(UnknownNameError, match="Did you mean hbm_bytes"):
        chip("trn2").source("hbm_byte")
