"""`nki.benchmark`, `nki.profile` and `nki.baremetal` in the call forms of public code."""

import json

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UsageError
from emuron.nki.launch import run_kernel


def doubled(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    nl.store(out, tile)
    return out


X = np.arange(128 * 64, dtype=np.float32).reshape(128, 64)


@pytest.mark.parametrize(
    "decorate",
    [
        nki.benchmark,
        nki.benchmark(warmup=5, iters=10, save_neff_name="a.neff", save_trace_name="a.ntff"),
        lambda f: nki.benchmark(warmup=1)(nki.jit(f)),
        nki.baremetal,
        nki.baremetal(save_neff_name="a.neff"),
    ],
)
def test_every_form_runs_the_kernel(decorate):
    assert np.array_equal(decorate(doubled)(X), 2 * X)


def test_the_latency_is_that_of_the_launch_and_its_floor():
    """The floor: "launch and drain of a program on the device", in the chip's data."""
    timed = nki.benchmark(warmup=2, iters=5)(doubled)
    timed(X)
    run = run_kernel(doubled, [X])
    expected = run.timing.total_ps / 1e6 + run.chip.core.timing.neff_floor_lnc1_us
    for percentile in (0, 1, 10, 25, 50, 90, 99, 100):
        found = timed.benchmark_result.nc_latency.get_latency_percentile(percentile)
        assert found == pytest.approx(expected)


def test_a_launch_on_two_cores_leaves_its_result_at_the_decorated_name():
    timed = nki.benchmark(doubled)
    assert np.array_equal(timed[2](X), 2 * X)
    assert timed.benchmark_result.nc_latency.get_latency_percentile(99) > 0


def test_percentiles_that_nki_does_not_offer_are_refused():
    timed = nki.benchmark(doubled)
    timed(X)
    with pytest.raises(UsageError, match="Percentile 75 is not offered; choose among 0, 1, 10"):
        timed.benchmark_result.nc_latency.get_latency_percentile(75)


def test_there_is_no_result_before_the_first_run():
    with pytest.raises(UsageError, match="doubled has no benchmark_result yet"):
        _ = nki.benchmark(doubled).benchmark_result


def test_a_benchmark_of_no_iteration_is_refused():
    with pytest.raises(UsageError, match="iters=0"):
        nki.benchmark(iters=0)(doubled)


def test_a_profile_is_written_once(tmp_path):
    folder = tmp_path / "p"
    timed = nki.profile(working_directory=folder, save_trace_name="p.ntff", profile_nth=2)(doubled)
    timed(X)
    document = json.loads((folder / "profile.json").read_text())
    assert document["kernel"] == "doubled"
    assert {path.name for path in folder.iterdir()} == {
        "profile.json",
        "report.html",
        "timeline.json.gz",
    }
    with pytest.raises(UsageError, match="overwrite=True"):
        nki.profile(working_directory=folder)(doubled)
    nki.profile(working_directory=folder, overwrite=True)(doubled)(X)


def test_a_profile_needs_a_folder():
    with pytest.raises(UsageError, match="working_directory"):
        nki.profile(doubled)
