"""Cores that meet: what waits for what across programs, and when it happens."""

from __future__ import annotations

import pytest

from emuron.errors import DeadlockError
from emuron.isa import collectives
from emuron.isa.affine import LoopIndex
from emuron.isa.program import Block, Loop
from emuron.isa.tensor import AccessPattern, Tensor
from emuron.sim.dma import transfer
from emuron.sim.timing import TimingResult, TimingSimulator
from emuron.trace.trace import Trace
from tests.sim.programs import ProgramWriter

REGISTERED = (collectives,)


def send(
    writer: ProgramWriter, src: Tensor, dst: Tensor, core: int, block: Block | None = None
) -> None:
    views = (AccessPattern(src), AccessPattern(dst))
    writer.issue(block, "sendrecv", *views, attributes=(1 - core, 1 - core, 0))


def barrier(writer: ProgramWriter, data: Tensor) -> None:
    writer.issue(None, "core_barrier", AccessPattern(data), attributes=((0, 1),))


def joint(*writers: ProgramWriter) -> TimingResult:
    programs = [writer.program() for writer in writers]
    return TimingSimulator(writers[0].chip, numba=False).run_cores(programs)


def apart(*writers: ProgramWriter) -> TimingResult:
    """Time two equal cores one by one: an instruction on an idle engine makes them differ."""
    idle = writers[1].sbuf("idle", 1)
    writers[1].activation_of(idle, idle, "exp")
    return joint(*writers)


def events(trace: Trace | None, queue: str, label: str) -> list[tuple[int, int]]:
    assert trace is not None
    wanted = trace.queue_names.index(queue), trace.labels.index(label)
    rows = zip(trace.queue, trace.label, trace.start_ps, trace.end_ps, strict=True)
    return [(int(start), int(end)) for q, name, start, end in rows if (q, name) == wanted]


def exchange(core: int, before: int, rounds: int = 1) -> ProgramWriter:
    """Return a core that copies some times, then sends a tile and reads what it receives."""
    writer = ProgramWriter()
    src, dst, out = (writer.sbuf(name, 512) for name in ("src", "dst", "out"))
    for _ in range(before):
        writer.copy(src, src)
    for _ in range(rounds):
        send(writer, src, dst, core)
        writer.copy(out, dst)
    return writer


def test_a_receiver_reads_what_has_come_and_a_sender_waits_for_the_receiver() -> None:
    early, late = exchange(0, 1), exchange(1, 50)
    result = joint(early, late)
    form = next(f for f in early.program().forms if f.mnemonic == "sendrecv")
    assert form.cost.dma is not None
    moved = transfer(form.cost.dma, early.core.dma)
    (_, work_end), (sent, sent_end) = (
        events(result.trace, "nc1/vector", "tensor_copy")[49],
        events(result.trace, "nc1/dma-copies0", "sendrecv")[0],
    )
    timing = early.core.timing
    ready = work_end + round((timing.vector_latency_ns + timing.semaphore_ns) * 1000)
    assert sent == ready + moved.before_ps
    read, _ = events(result.trace, "nc0/vector", "tensor_copy")[1]
    semaphore_ps = round(timing.semaphore_ns * 1000)
    assert read == sent_end + moved.after_ps + semaphore_ps
    early_sent, _ = events(result.trace, "nc0/dma-copies0", "sendrecv")[0]
    assert early_sent < work_end  # the late core's tile is free from the start


def test_a_sender_waits_until_the_receiver_has_read_the_tile_before() -> None:
    def core(number: int, copies: int) -> ProgramWriter:
        writer = ProgramWriter()
        src, dst, out = (writer.sbuf(name, 512) for name in ("src", "dst", "out"))
        send(writer, src, dst, number)
        for _ in range(copies):
            writer.add(out, dst, out)
        send(writer, src, dst, number)
        return writer

    result = joint(core(0, 1), core(1, 80))
    *_, (_, last_read) = events(result.trace, "nc1/vector", "tensor_tensor")
    second, _ = events(result.trace, "nc0/dma-copies1", "sendrecv")[0]
    assert second > last_read
    other, _ = events(result.trace, "nc1/dma-copies1", "sendrecv")[0]
    assert other < last_read


def test_a_barrier_holds_the_early_core_until_the_late_one_comes() -> None:
    def core(copies: int) -> ProgramWriter:
        writer = ProgramWriter()
        x, data = writer.sbuf("x", 512), writer.hbm("data", (128, 512))
        for _ in range(copies):
            writer.copy(x, x)
        writer.store(data, x)
        barrier(writer, data)
        writer.load(x, data)
        return writer

    result = joint(core(1), core(60))
    _, stored = events(result.trace, "nc1/dma-stores0", "dma_copy")[0]
    for number in (0, 1):
        begin, end = events(result.trace, f"nc{number}/gpsimd", "core_barrier")[0]
        assert begin > stored
        loaded, _ = events(result.trace, f"nc{number}/dma-loads0", "dma_copy")[0]
        assert loaded > end


def test_cores_that_meet_and_do_the_same_take_what_they_take_apart() -> None:
    alike = joint(exchange(0, 3, 20), exchange(1, 3, 20))
    other = apart(exchange(0, 3, 20), exchange(1, 3, 20))
    assert (alike.cores, other.cores) == (2, 1)
    assert alike.total_ps == other.total_ps
    assert alike.busy_ps["vector"] == other.busy_ps["nc0/vector"] == other.busy_ps["nc1/vector"]


def in_loop(core: int, trip: int, before: int, *, unrolled: bool) -> ProgramWriter:
    writer = ProgramWriter()
    src, dst, out = (writer.sbuf(name, 512) for name in ("src", "dst", "out"))
    for _ in range(before):
        writer.copy(src, src)
    blocks = [None] * trip
    if not unrolled:
        blocks = [Block()]  # type: ignore[list-item]
        writer.body.append(Loop(LoopIndex("i", trip), [*blocks]))  # type: ignore[list-item]
    for block in blocks:
        send(writer, src, dst, core, block)
        writer.add(out, dst, out, block)
    return writer


@pytest.mark.parametrize("before", [(2, 2), (2, 30)])
def test_meetings_in_loops_take_what_they_take_written_out(before: tuple[int, int]) -> None:
    totals = {
        joint(*(in_loop(c, 40, before[c], unrolled=unrolled) for c in (0, 1))).total_ps
        for unrolled in (False, True)
    }
    assert len(totals) == 1


def test_a_core_whose_partner_never_comes_is_named() -> None:
    with pytest.raises(DeadlockError, match=r"core 0 .*sendrecv.* \(number 2\) for core 1"):
        joint(exchange(0, 1, 2), exchange(1, 1, 1))


def test_programs_that_are_alike_are_tracked_once() -> None:
    """Equal programs take one way through `run_cores`, programs whose tensors differ the other."""

    def core(role: str) -> ProgramWriter:
        writer = ProgramWriter()
        x, data = writer.sbuf("x", 512), writer.hbm("data", (128, 512), role)
        writer.load(x, writer.hbm("h", (128, 512), "input"))
        writer.store(data, x)
        barrier(writer, data)
        writer.load(x, data)
        return writer

    same, other = joint(core("output"), core("output")), joint(core("output"), core("temporary"))
    assert (same.cores, other.cores) == (2, 2)
    assert same.total_ps == other.total_ps


@pytest.mark.parametrize("loads", [(3, 0), (0, 3)])
def test_cores_meet_over_queues_that_only_one_of_them_has(loads: tuple[int, int]) -> None:
    def core(number: int) -> ProgramWriter:
        writer = ProgramWriter()
        for i in range(loads[number]):  # rings are numbered in the order of their use
            writer.load(writer.sbuf(f"tile{i}", 512), writer.hbm(f"x{i}", (128, 512)))
        src, dst, out = (writer.sbuf(name, 512) for name in ("src", "dst", "out"))
        send(writer, src, dst, number)
        writer.copy(out, dst)
        return writer

    trace = joint(core(0), core(1)).trace
    waits = []
    for number in (0, 1):
        ((_, sent_end),) = events(trace, f"nc{1 - number}/dma-copies0", "sendrecv")
        ((read, _),) = events(trace, f"nc{number}/vector", "tensor_copy")
        waits.append(read - sent_end)
    assert waits[0] == waits[1] > 0


@pytest.mark.fast
def test_compiled_and_plain_runs_of_several_cores_agree() -> None:
    pytest.importorskip("numba")
    programs = [exchange(0, 3, 30).program(), exchange(1, 40, 30).program()]
    chip = exchange(0, 1).chip
    plain, compiled = (
        TimingSimulator(chip, numba=numba).run_cores(programs) for numba in (False, True)
    )
    assert plain.trace is not None
    assert compiled.trace is not None
    assert plain.trace.to_text() == compiled.trace.to_text()
