"""What events waited for: in programs where it is plain to see."""

import numpy as np

from emuron.isa.affine import Affine, LoopIndex
from emuron.isa.program import Block, Loop
from emuron.sim.timing import TimingSimulator
from emuron.trace.repetition import unfold
from tests.sim.programs import ProgramWriter


def blockers(writer):
    """Return of each event (instruction, queue waited for or None, lag in ps), by start."""
    trace = TimingSimulator(writer.chip).run(writer.program()).trace
    order = np.lexsort((trace.queue, trace.start_ps))
    return [
        (
            trace.labels[trace.label[row]],
            trace.queue_names[trace.blocker[row]] if trace.blocker[row] >= 0 else None,
            int(trace.lag_ps[row]),
        )
        for row in order
    ]


def test_an_engine_waits_for_a_load_and_its_completion():
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 512), writer.sbuf("y", 512)
    writer.load(x, writer.hbm("h", (128, 512), "input"))
    writer.copy(y, x)
    dma = writer.core.dma
    after = round((dma.fixed_ns - dma.fixed_before_ns) * 1000)
    before = round(dma.fixed_before_ns * 1000)
    assert blockers(writer) == [("dma_copy", None, before), ("tensor_copy", "dma-loads0", after)]


def test_a_result_of_another_engine_arrives_after_latency_and_semaphore():
    writer = ProgramWriter()
    weights, data, psum = writer.sbuf("w", 128), writer.sbuf("d", 512), writer.psum("p", 512)
    writer.matmul(psum, weights, data)
    writer.copy(writer.sbuf("y", 512), psum)
    timing = writer.core.timing
    lag = round(timing.tensor_latency_ns * 1000) + round(timing.semaphore_ns * 1000)
    assert blockers(writer)[1] == ("tensor_copy", "tensor", lag)


def test_independent_instructions_only_take_their_turn():
    writer = ProgramWriter()
    for name in "xyz":
        writer.memset(writer.sbuf(name, 512))
    assert blockers(writer)[1:] == [("memset", "vector", 0)] * 2


def test_a_table_load_shows_as_a_lag_on_the_engine_itself():
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 2048), writer.sbuf("y", 2048)
    for op in ("exp", "exp", "tanh"):
        writer.activation_of(y, x, op)
    load = round(writer.core.timing.act_table_load_ns * 1000)
    assert [lag for _, _, lag in blockers(writer)] == [load, 0, load]


def test_a_load_into_a_tile_in_use_waits_for_the_engine_that_reads_it():
    writer = ProgramWriter()
    x, y = writer.sbuf("x", 512), writer.sbuf("y", 512)
    source = writer.hbm("h", (128, 1024), "input")
    for turn in range(2):
        writer.load(x, source, turn * 512)
        writer.copy(y, x)
    assert [name for _, name, _ in blockers(writer)][2:] == ["vector", "dma-loads1"]


def test_skipped_iterations_wait_as_those_written_out():
    writer = ProgramWriter()
    slots = [writer.sbuf(f"s{i}", 1024) for i in range(2)]
    source, index, body = writer.hbm("h", (128, 2048 * 50), "input"), LoopIndex("i", 50), Block()
    writer.body.append(Loop(index, [body]))
    for i, slot in enumerate(slots):
        writer.load(slot, source, Affine.of(index) * 2048 + 1024 * i, block=body)
        writer.copy(writer.sbuf(f"y{i}", 1024), slot, body)
    keys = []
    for skip in (True, False):
        trace = TimingSimulator(writer.chip, skip=skip).run(writer.program()).trace
        whole = unfold(trace)
        keys.append(
            sorted(zip(whole.start_ps, whole.queue, whole.blocker, whole.lag_ps, strict=True))
        )
    assert keys[0] == keys[1]
