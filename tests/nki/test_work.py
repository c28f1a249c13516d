"""The work of recorded kernels, counted by hand."""

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.nki.launch import run_kernel
from emuron.nki.line_profile import profile_run
from emuron.nki.work import traffic_of, work_of


@nki.jit
def doubled(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    for _ in range(4):
        tile = nl.ndarray((64, 256), x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
        nisa.dma_copy(dst=out, src=tile)
    return out


def run():
    return run_kernel(doubled, [nki.ShapeDtype((64, 256), "bfloat16")], execute=False)


def test_equal_instructions_of_a_line_are_counted_together():
    run_ = run()
    load, scale, store = work_of(run_.program)
    assert [w.mnemonic for w in (load, scale, store)] == ["dma_copy", "tensor_scalar", "dma_copy"]
    assert {w.count for w in (load, scale, store)} == {4}
    assert (load.engine, load.bytes, load.row_bytes, load.descriptors) == ("dma", 32768, 512, 64)
    assert (scale.engine, scale.partitions, scale.elements) == ("vector", 64, 256)
    assert scale.dtypes == ("bfloat16", "bfloat16")
    assert not scale.reads_psum


def test_traffic_counts_every_read_and_write_of_a_tensor():
    found = {t.tensor: t for t in traffic_of(run().programs)}
    assert found["x"].read_bytes == 4 * found["x"].size_bytes == 4 * 64 * 256 * 2
    assert [t.written_bytes for t in found.values() if t.tensor != "x"] == [4 * 64 * 256 * 2]


def test_lines_carry_their_source_text_and_file():
    profile = profile_run(run(), "small")
    scale = next(line for line in profile.lines if "tensor_scalar" in line.instructions)
    assert scale.source == "nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)"
    assert scale.path == __file__
    assert scale.line.startswith("test_work.py:")
    assert profile.measured.cores == 1


def test_files_of_one_name_are_told_apart():
    program = run().program
    assert program.file_name("/a/b/kernel.py") == "kernel.py"
    assert program.file_name("/a/c/kernel.py") == "c/kernel.py"
    assert program.file_name("/a/b/kernel.py") == "kernel.py"


@nki.jit
def halves(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    own = x.shape[0] // 2
    mine = nl.ds(nl.program_id(0) * own, own)
    tile = nl.ndarray((own, x.shape[1]), x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[mine, :])
    nisa.dma_copy(dst=out[mine, :], src=tile)
    return out


def test_cores_that_do_the_same_are_shown_once_and_share_the_memory():
    x = nki.ShapeDtype((256, 2048), "bfloat16")
    profile = profile_run(run_kernel(halves[2], [x], execute=False))
    assert (profile.measured.cores, profile.measured.shown) == (2, 1)
    assert all(bound.least_ps <= profile.summary.total_ps for bound in profile.bounds)
    (read,) = (t for t in profile.measured.traffic if t.tensor == "x")
    assert read.read_bytes == read.size_bytes == 256 * 2048 * 2


@nki.jit
def spread(x):
    tile = nl.load(x)
    nisa.activation(
        tile,
        nl.exp,
        tile,
    )
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, tile)
    return out


def test_a_call_over_several_lines_is_shown_whole():
    profile = profile_run(run_kernel(spread, [nki.ShapeDtype((64, 256), "float32")], execute=False))
    (line,) = (line for line in profile.lines if "activation" in line.instructions)
    assert line.source == "nisa.activation(tile, nl.exp, tile,)"
