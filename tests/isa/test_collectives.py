"""sendrecv and core_barrier: what the hardware refuses, and their cost."""

from __future__ import annotations

import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import HardwareLimitError


def launched(body, target="trn2"):
    """Run `body(me)` on both cores without data; return the run."""
    return nki.run_kernel(nki.jit(lambda: body(nl.program_id()))[2], target=target, execute=False)


def swap(src, dst, me, **options):
    nisa.sendrecv(src, dst, 1 - me, 1 - me, 0, **options)


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        (lambda: (nl.ndarray((4, 4), "float32"), nl.ndarray((4, 4), "bfloat16")), "same dtype"),
        (lambda: (nl.ndarray((4, 4), "float32"), nl.ndarray((4, 5), "float32")), "must be equal"),
        (
            lambda: (nl.ndarray((4, 4), "float32", buffer=nl.psum), nl.ndarray((4, 4), "float32")),
            "src must lie in sbuf",
        ),
        (
            lambda: (nl.ndarray((4, 4), "float32"), nl.ndarray((4, 4), "float32", nl.shared_hbm)),
            "dst must lie in sbuf",
        ),
    ],
)
def test_sendrecv_refuses_tiles_that_do_not_fit(tiles, message):
    with pytest.raises(HardwareLimitError, match=f"sendrecv.*{message}"):
        launched(lambda me: swap(*tiles(), me))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "uint32"])
def test_the_dma_of_gpsimd_moves_256_elements_of_any_type(dtype):
    """ "dma_engine.gpsimd_dma: at most 1024/512/256 bytes per partition for 32/16/8-bit types"."""

    def body(me, count):
        tile = nl.ndarray((4, count), dtype)
        swap(tile, tile, me, dma_engine=nisa.dma_engine.gpsimd_dma)

    launched(lambda me: body(me, 256))
    with pytest.raises(HardwareLimitError, match=r"gpsimd_dma moves at most .*dma_engine=dma"):
        launched(lambda me: body(me, 257))


def test_the_keyword_of_nki_0_2_chooses_the_dma_of_gpsimd():
    def body(me):
        tile = nl.ndarray((4, 4), "float32")
        with pytest.warns(DeprecationWarning, match="dma_engine="):
            swap(tile, tile, me, use_gpsimd_dma=True)

    assert "dma_engine='gpsimd_dma'" in launched(body).program.to_text()


def test_pairs_of_cores_exist_from_v3_on():
    tile = "sendrecv: it exists from NeuronCore-v3 on, this is NeuronCore-v2"
    with pytest.raises(HardwareLimitError, match=tile):
        nki.run_kernel(
            lambda: nisa.sendrecv(
                nl.ndarray((1, 1), "float32"), nl.ndarray((1, 1), "float32"), 0, 0, 0
            ),
            target="inf2",
            execute=False,
        )


def test_a_barrier_refuses_engines_that_cannot_wait():
    with pytest.raises(HardwareLimitError, match="engine=dma is not possible"):
        launched(lambda me: nisa.core_barrier(nl.ndarray((1, 1), "int32"), (0, 1), "dma"))


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize("engine", ["gpsimd", "vector", "tensor", "scalar", "sync"])
def test_a_barrier_holds_its_engine_for_the_time_of_the_chips_data(target, engine):
    run = launched(
        lambda me: nisa.core_barrier(nl.ndarray((1, 1), "int32"), (0, 1), engine), target
    )
    core = run.chip.core
    (form,) = run.program.forms
    assert form.engine == engine
    held_ns = form.cost.cycles / core.engine(engine).clock_ghz
    assert held_ns == pytest.approx(core.timing.core_barrier_ns)


def test_more_data_take_longer_to_send():
    def body(me, columns):
        tile = nl.ndarray((128, columns), "float32")
        swap(tile, tile, me)

    times = [launched(lambda me, n=n: body(me, n)).timing.total_ps for n in (64, 4096, 16384)]
    assert times == sorted(set(times))
