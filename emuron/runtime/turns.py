"""The time of programs that run in turn with the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from emuron.sim.timing import TimingResult
from emuron.trace.trace import TraceBuilder

HOST_QUEUE = "host"
_BYTES_MOVED = "hbm_bytes_moved"


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """The host's time of a part, and after it that of its program if it has one."""

    name: str
    host_ps: int
    timing: TimingResult | None


def in_turns(turns: Sequence[Turn]) -> TimingResult:
    """Return the time of parts that run one after another, the host's time as a queue."""
    traces = [t.timing.trace for t in turns if t.timing is not None and t.timing.trace is not None]
    builder = TraceBuilder(traces[0].metadata if traces else {})
    builder.metadata[_BYTES_MOVED] = sum(int(t.metadata.get(_BYTES_MOVED, 0)) for t in traces)
    busy: Counter[str] = Counter()
    now_ps = instructions = executed = 0
    for turn in turns:
        builder.add(HOST_QUEUE, "host", now_ps, now_ps + turn.host_ps, group=turn.name)
        busy[HOST_QUEUE] += turn.host_ps
        now_ps += turn.host_ps
        if turn.timing is None:
            continue
        if turn.timing.trace is not None:
            builder.extend(turn.timing.trace, now_ps)
        busy.update(turn.timing.busy_ps)
        now_ps += turn.timing.total_ps
        instructions += turn.timing.instructions
        executed += turn.timing.executed
    return TimingResult(now_ps, dict(busy), instructions, executed, builder.finish(now_ps))
