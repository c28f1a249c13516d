"""A core's device memory: what is taken, and the verdict with the numbers."""

from __future__ import annotations

import pytest

from emuron.runtime.memory import DeviceMemory

GIB = 1 << 30


@pytest.mark.parametrize(("limit", "verdict"), [(16, "fits"), (10, "fits"), (9, "does not fit")])
def test_a_model_fits_up_to_the_last_byte(limit: int, verdict: str) -> None:
    memory = DeviceMemory(6 * GIB, 2 * GIB, GIB, GIB, limit * GIB)
    assert memory.total_bytes == 10 * GIB
    assert memory.verdict == verdict
    assert memory.fits == (verdict == "fits")


def test_the_verdict_names_each_part_that_there_is() -> None:
    text = str(DeviceMemory(20 * GIB, GIB, 0, 0, 16 * GIB))
    assert text == (
        "does not fit: 21.0 GiB of 16.0 GiB on each core (weights 20.0 GiB, KV cache 1.00 GiB)"
    )
