"""Step times from bytes and operations."""

from pathlib import Path

import pytest

from emuron.errors import CapacityError, UsageError
from emuron.hardware.catalog import instance
from emuron.serving.models.llama import kv_bytes_per_token, open_llama
from emuron.serving.roofline import ModelSize, Roofline

LLAMA_8B = ModelSize(
    weight_bytes=16_060_000_000,
    matrix_weights=7_500_000_000,
    kv_bytes_per_token=131_072,
    attention_width=4096,
    layers=32,
    dtype="bfloat16",
)


def test_a_small_decode_is_bound_by_memory() -> None:
    inf2 = instance("inf2.xlarge")
    time = Roofline(inf2, 2, LLAMA_8B)
    floor_s = 16.06 / (inf2.chip.hbm_gb_per_s * inf2.chip.hbm_efficiency)
    assert time("decode", 1, 1, 128) > floor_s
    extra_s = time("decode", 8, 1, 2048) - time("decode", 1, 1, 2048)
    cache_gb = 7 * 2049 * 131_072 / 1e9
    assert extra_s == pytest.approx(
        cache_gb / (inf2.chip.hbm_gb_per_s * inf2.chip.hbm_efficiency), rel=1e-6
    )


def test_a_long_prefill_is_bound_by_compute_and_doubles_with_the_bucket() -> None:
    time = Roofline(instance("inf2.xlarge"), 1, LLAMA_8B)
    products_s = 2 * 2048 * 7.5e9 / (190e12 / 2)  # HW inferentia2: 190 TFLOPS over two cores
    assert products_s < time("prefill", 1, 2048, 0) < 1.3 * products_s
    assert time("prefill", 1, 4096, 0) > 1.9 * time("prefill", 1, 2048, 0)


def test_more_cores_are_faster() -> None:
    inf2 = instance("inf2.48xlarge")
    one, many = (Roofline(inf2, tp, LLAMA_8B)("prefill", 1, 2048, 0) for tp in (1, 24))
    assert many < one


def test_more_cores_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match=r"between 1 and the 2 logical cores of inf2.xlarge"):
        Roofline(instance("inf2.xlarge"), 3, LLAMA_8B)


def test_weights_beyond_the_memory_are_refused() -> None:
    big = ModelSize(200 * 2**30, 10**11, 10**6, 8192, 80, "bfloat16")
    with pytest.raises(CapacityError, match=r"raise --tp"):
        _ = Roofline(instance("inf2.xlarge"), 2, big).kv_budget_bytes


def test_the_size_of_a_model_is_counted_from_its_weights(tiny_llama: Path) -> None:
    model = open_llama(tiny_llama)
    size = ModelSize.of(model)
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 192
    assert size.matrix_weights == 2 * layer + 384 * 64
    assert size.kv_bytes_per_token == kv_bytes_per_token(model)
    assert size.layers == 2
