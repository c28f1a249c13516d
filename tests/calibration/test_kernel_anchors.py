"""Published times of single kernels are met (hardware.md §2.11)."""

import runpy
from pathlib import Path

import pytest

import emuron.nki as nki

EXAMPLE = Path(__file__).parents[2] / "examples" / "kernels" / "matmul.py"


@pytest.mark.parametrize(
    ("version", "published_us"),
    [
        pytest.param("tiled", 8602, marks=pytest.mark.slow),
        pytest.param("blocked", 2451, marks=pytest.mark.slow),
        ("optimised", 1801),
    ],
)
def test_a_matmul_of_4096_takes_the_measured_time(version, published_us):
    """AGD, one core of Trainium2, bfloat16: rows of 256 B and 1 KiB, blocks, rows of 2 KiB."""
    kernel = runpy.run_path(str(EXAMPLE))[f"matmul_{version}"]
    square = nki.ShapeDtype((4096, 4096), "bfloat16")
    run = nki.run_kernel(kernel, (square, square), target="trn2", execute=False, collect=False)
    assert run.device_ps / 1e6 == pytest.approx(published_us, rel=0.15)
