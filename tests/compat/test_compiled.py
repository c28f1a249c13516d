"""Compile-style entry points: they record, time and write a file that the runtime can run."""

import json
import pickle
import zipfile

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.compat.compiled import PROGRAMS, CompiledKernel, CompileOptions
from emuron.compat.driver import compile_kernel, extract_perf_metrics
from emuron.compat.framework import CompileKernel
from emuron.compat.frontend import ParserFrontend
from emuron.compat.runtime import SpikeModel, SpikeTensor
from emuron.errors import ModelFileError, UsageError
from emuron.nki.kernel import jit
from emuron.nki.launch import run_kernel


@jit
def halves_doubled(x):
    """Return 2x; with two cores, each takes one half of the rows."""
    rows = x.shape[0] // nl.num_programs(axes=0)
    first = nl.program_id(axis=0) * rows
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((rows, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[first : first + rows])
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out[first : first + rows], src=tile)
    return out


def doubled_into(source, destination, times):
    tile = nl.ndarray(source.shape, dtype=source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=source)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=times)
    nisa.dma_copy(dst=destination, src=tile)


@pytest.fixture
def x() -> np.ndarray:
    return np.arange(64 * 8, dtype=np.float32).reshape(64, 8)


@pytest.mark.parametrize("lnc", [1, 2])
def test_a_compiled_kernel_runs_from_its_file_on_every_core(tmp_path, x, lnc):
    traced = ParserFrontend().compile(
        halves_doubled, inputs={"x": x}, target="trn2", lnc=lnc, output_names=["y"]
    )
    options = CompileOptions("trn2", lnc, output_path=str(tmp_path / "kernel.neff"))
    compiled = CompiledKernel.from_frontend(traced, options.disable_backend_optimizations())
    assert [(name, spec.shape) for name, spec in compiled.output_specs] == [("y", (64, 8))]
    result = SpikeModel.load_from_neff(compiled.neff_path)({"x": SpikeTensor.from_numpy(x)})
    assert result["y"].numpy().tolist() == (x + x).tolist()


def test_the_file_has_the_time_that_a_launch_has(tmp_path, x):
    options = CompileOptions("trn2", output_path=str(tmp_path / "kernel.neff"))
    kernel = CompileKernel(halves_doubled.func)
    compiled = kernel.compile(options, x=x)
    launched = run_kernel(halves_doubled, (x,), target="trn2")
    assert compiled.total_ps == launched.timing.total_ps
    model = SpikeModel(CompiledKernel.load(compiled.neff_path))
    assert model.benchmark().mean_ms == pytest.approx(launched.timing.total_ps / 1e9)
    assert extract_perf_metrics(compiled)["latency_us"] == launched.timing.total_ps / 1e6
    with zipfile.ZipFile(compiled.neff_path) as archive:
        assert json.loads(archive.read("manifest.json"))["kernel"] == "halves_doubled"
        assert "dma_copy" in archive.read("core0.txt").decode()


def test_a_kernel_that_fills_its_arguments_updates_the_output_tensors(tmp_path, x):
    y = np.zeros_like(x)
    options = CompileOptions("trn2", output_path=str(tmp_path / "kernel.neff"))
    compiled = compile_kernel(doubled_into, {"source": x}, {"destination": y}, options, times=3.0)
    filled = SpikeTensor.from_numpy(y)
    SpikeModel.load_from_neff(compiled.neff_path)(
        {"source": SpikeTensor(x)}, {"destination": filled}
    )
    assert filled.numpy().tolist() == (x * 3).tolist()


def test_a_frontend_writes_the_program_as_text(tmp_path, x):
    ParserFrontend().compile(
        halves_doubled, inputs={"x": x}, lnc=2, artifacts_dir=str(tmp_path), dump_python_ast=True
    )
    names = ["halves_doubled.core0.txt", "halves_doubled.core1.txt", "halves_doubled.py"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_what_a_kernel_raises_is_raised_by_the_frontend(x):
    def failing(x):
        raise AssertionError("This kernel should fail")

    with pytest.raises(AssertionError, match="This kernel should fail"):
        ParserFrontend().compile(failing, inputs={"x": x})


def test_the_number_of_output_names_has_to_fit(x):
    with pytest.raises(UsageError, match="returns 1 tensors, but 2 output names"):
        ParserFrontend().compile(halves_doubled, inputs={"x": x}, output_names=["a", "b"])


def test_the_runtime_names_a_misshapen_input(tmp_path, x):
    options = CompileOptions("trn2", output_path=str(tmp_path / "kernel.neff"))
    model = SpikeModel(CompileKernel(halves_doubled.func).compile(options, x=x))
    with pytest.raises(UsageError, match=r"'x' has shape \[1, 8\]; it was compiled for float32"):
        model({"x": SpikeTensor(x[:1])})
    with pytest.raises(UsageError, match="'x' is missing"):
        model({})


def test_a_file_that_is_no_compiled_kernel_is_refused(tmp_path):
    (tmp_path / "other.neff").write_bytes(b"NEFF")
    with pytest.raises(ModelFileError, match="no kernel compiled by emuron"):
        CompiledKernel.load(tmp_path / "other.neff")


def test_a_file_cannot_bring_foreign_code(tmp_path, x):
    path = tmp_path / "kernel.neff"
    options = CompileOptions("trn2", output_path=str(path))
    CompileKernel(halves_doubled.func).compile(options, x=x)
    with zipfile.ZipFile(path) as archive:
        kept = {n: archive.read(n) for n in archive.namelist() if n != PROGRAMS}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
        archive.writestr(PROGRAMS, pickle.dumps(print))
    with pytest.raises(ModelFileError, match=r"builtins.print has no place"):
        CompiledKernel.load(path)
