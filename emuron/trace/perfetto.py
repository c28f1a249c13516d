"""Perfetto: a trace as Chrome JSON, for ui.perfetto.dev or chrome://tracing.

Format: "Trace Event Format" (the Chrome project's document of that name): complete events "X",
counters "C", metadata "M"; `ts` and `dur` are microseconds.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from typing import IO, Any, cast

import numpy as np

from emuron.trace.activity import dma_bandwidth, lanes
from emuron.trace.atomic import replacing
from emuron.trace.repetition import loops, unfold_if_small
from emuron.trace.summary import queue_kind
from emuron.trace.trace import Trace

_PS_PER_US = 10**6
_BANDWIDTH_BINS = 1000
_KIND_ORDER = ("host", "tensor", "vector", "scalar", "gpsimd", "sync", "collective", "other", "dma")
_NO_CORE = "NeuronCore"


def to_perfetto(trace: Trace, path: str | os.PathLike[str], most_events: int = 300_000) -> None:
    """Write `trace` to `path` as Chrome JSON, gzipped if the name ends in .gz.

    Repeats are written out if at most `most_events` come of it, else marked on their own track.
    """
    trace = unfold_if_small(trace, most_events)
    with replacing(path) as file:
        if os.fspath(path).endswith(".gz"):
            # No name and no time in the header: the same trace gives the same bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                _write(trace, cast(IO[bytes], packed))
        else:
            _write(trace, file)


def microseconds(ps: int) -> str:
    """Return `ps` picoseconds as a decimal number of microseconds, exactly."""
    whole, rest = divmod(ps, _PS_PER_US)
    return f"{whole}.{rest:06d}"


def _write(trace: Trace, file: IO[bytes]) -> None:
    other = json.dumps({"total_ps": trace.total_ps, **trace.metadata}, sort_keys=True)
    file.write(f'{{"displayTimeUnit":"ns","otherData":{other},"traceEvents":[\n'.encode())
    separator = ""
    for line in _lines(trace):
        file.write(f"{separator}{line}".encode())
        separator = ",\n"
    file.write(b"\n]}\n")


def _lines(trace: Trace) -> Iterator[str]:
    tracks = _Tracks(trace)
    yield from tracks.metadata()
    yield from _slices(trace, tracks)
    yield from _repeats(trace, tracks)
    yield from _counters(trace)


class _Tracks:
    """Process and thread of every event: a process a core, a thread a queue (or lane of one)."""

    def __init__(self, trace: Trace) -> None:
        self.lane = np.zeros(len(trace), np.int64)
        self.first_thread: list[int] = []
        self.threads: list[tuple[int, int, str, int]] = []
        cores = [name.rpartition("/")[0] or _NO_CORE for name in trace.queue_names]
        self.processes = list(dict.fromkeys(cores)) or [_NO_CORE]
        self.process_of_queue = [self.processes.index(core) + 1 for core in cores]
        for queue, name in enumerate(trace.queue_names):
            rows = np.flatnonzero(trace.queue == queue)
            self.lane[rows] = lanes(trace.start_ps[rows], trace.end_ps[rows])
            self._add(queue, name.rpartition("/")[2], 1 + int(self.lane[rows].max(initial=0)))
        self.repeat_thread = len(self.threads) + 1
        self.thread = np.array(self.first_thread, np.int64)[trace.queue] + self.lane

    def _add(self, queue: int, name: str, lane_count: int) -> None:
        self.first_thread.append(len(self.threads) + 1)
        order = _KIND_ORDER.index(queue_kind(name)) * 1000 + queue
        for lane in range(lane_count):
            title = name if lane_count == 1 else f"{name} #{lane}"
            process = self.process_of_queue[queue]
            self.threads.append((process, len(self.threads) + 1, title, order))

    def metadata(self) -> Iterator[str]:
        """Yield the names and the order of processes and threads."""
        for number, name in enumerate(self.processes, 1):
            yield _named("process_name", number, 0, name=name)
            yield _named("process_sort_index", number, 0, sort_index=number)
        yield _named("process_name", 0, 0, name="Memory and bandwidth")
        for process, thread, title, order in self.threads:
            yield _named("thread_name", process, thread, name=title)
            yield _named("thread_sort_index", process, thread, sort_index=order)


def _named(what: str, process: int, thread: int, **args: Any) -> str:
    return json.dumps({"ph": "M", "name": what, "pid": process, "tid": thread, "args": args})


def _slices(trace: Trace, tracks: _Tracks) -> Iterator[str]:
    labels = [json.dumps(name) for name in trace.labels]
    groups = [json.dumps(name) for name in trace.groups]
    kinds = [json.dumps(queue_kind(name)) for name in trace.queue_names]
    order = np.lexsort((tracks.thread, trace.start_ps))
    columns = (
        trace.queue,
        tracks.thread,
        trace.start_ps,
        trace.duration_ps,
        trace.label,
        trace.group,
        trace.bytes,
        trace.flops,
        trace.multiplicity(),
    )
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    for queue, thread, start, duration, label, group, moved, flops, times in rows:
        args = f'"group":{groups[group]},"bytes":{moved},"flops":{flops}'
        if times > 1:
            args += f',"times":{times}'
        yield (
            f'{{"ph":"X","name":{labels[label]},"cat":{kinds[queue]},'
            f'"pid":{tracks.process_of_queue[queue]},"tid":{thread},'
            f'"ts":{microseconds(start)},"dur":{microseconds(duration)},"args":{{{args}}}}}'
        )


def _repeats(trace: Trace, tracks: _Tracks) -> Iterator[str]:
    marks = loops(trace)
    start = np.array([r.start_ps + r.period_ps for r in marks], np.int64)
    length = np.array([(r.count - 1) * r.period_ps for r in marks], np.int64)
    threads = (tracks.repeat_thread + lanes(start, start + length)).tolist()
    for thread in sorted(set(threads)):
        yield _named("thread_name", 1, thread, name="repeats (not drawn)")
    for repeat, thread, begin, rest in zip(
        marks, threads, start.tolist(), length.tolist(), strict=True
    ):
        yield (
            f'{{"ph":"X","name":"{repeat.count - 1} more","cat":"repeat","pid":1,"tid":{thread},'
            f'"ts":{microseconds(begin)},"dur":{microseconds(rest)},'
            f'"args":{{"period_ps":{repeat.period_ps}}}}}'
        )


def _counters(trace: Trace) -> Iterator[str]:
    for name, (times, values) in sorted(trace.counters.items()):
        quoted = json.dumps(name)
        for t_ps, value in zip(times.tolist(), values.tolist(), strict=True):
            yield _counter(quoted, t_ps, value)
    edges, rates = dma_bandwidth(trace, _BANDWIDTH_BINS)
    if rates.any():
        for t_ps, rate in zip(edges.tolist(), [*rates.tolist(), 0.0], strict=True):
            yield _counter('"HBM GB/s"', round(t_ps), rate)


def _counter(quoted_name: str, t_ps: int, value: float) -> str:
    return (
        f'{{"ph":"C","name":{quoted_name},"pid":0,"ts":{microseconds(t_ps)},'
        f'"args":{{"value":{json.dumps(value)}}}}}'
    )
