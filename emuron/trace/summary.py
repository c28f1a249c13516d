"""Summary: where the time of a trace goes, by engine and by group, and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emuron.trace.quantity import share_text
from emuron.trace.repetition import Folded, fold
from emuron.trace.trace import Trace

KINDS = ("dma", "tensor", "vector", "scalar", "gpsimd", "sync", "collective", "host", "other")
"""What a queue can be, as `queue_kind` tells by its name."""

IDLE = "(idle)"
UNGROUPED = "(no group)"

_KIND_OF_WORD: Mapping[str, str] = {
    **dict.fromkeys(("dma", "ring", "q"), "dma"),
    **dict.fromkeys(("tensor", "pe", "pe0", "tensor_engine"), "tensor"),
    **dict.fromkeys(("vector", "dve"), "vector"),
    **dict.fromkeys(("scalar", "act"), "scalar"),
    **dict.fromkeys(("gpsimd", "pool"), "gpsimd"),
    **dict.fromkeys(("sync", "sp"), "sync"),
    **dict.fromkeys(("cc", "collective", "collectives"), "collective"),
    "host": "host",
}
_TITLES = {"dma": "DMA", "tensor": "Tensor (PE)", "gpsimd": "GpSimd"}
# Below this share of the run no engine and no DMA is the bottleneck: the time goes into waiting.
_BOUND_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class QueueUse:
    """One queue: the time in which it did something (overlaps count once), and what it did."""

    name: str
    kind: str
    events: int
    busy_ps: int
    busy_share: float
    bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class GroupUse:
    """One group (layer or source line).

    `share_ps` is its part of the wall clock: every instant is split equally among the groups active
    in it, so that all groups and the idle time add up to the run. `active_ps` counts an instant
    fully for each active group.
    """

    name: str
    events: int
    share_ps: float
    share: float
    active_ps: int
    busy_ps: Mapping[str, int]
    bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What bounds the run ("dma", "tensor", "vector", ..., or "latency"), and why, in sentences."""

    bound_by: str
    title: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a trace, every repetition counted.

    `mfu` is FLOPs on the tensor engine over what its peak would have done; `mbu` HBM bytes over
    what HBM could have moved; both None where the metadata names no peak. `peaks` holds the
    highest value of each counter. `exact` is as in `Folded`.
    """

    total_ps: int
    events: int
    busy_ps: int
    idle_ps: int
    queues: tuple[QueueUse, ...]
    kinds: Mapping[str, int]
    groups: tuple[GroupUse, ...]
    dma_bytes: int
    hbm_bytes: int
    flops: int
    mfu: float | None
    mbu: float | None
    peaks: Mapping[str, float]
    verdict: Verdict
    exact: bool = True


def queue_kind(name: str) -> str:
    """Return the kind of a queue by its name's last part, as in "nc0/tensor", "dma12", "q3"."""
    word = name.lower().replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    for candidate in (word, word.rstrip("0123456789_-"), word.split("_")[0], word.split("-")[0]):
        kind = _KIND_OF_WORD.get(candidate)
        if kind:
            return kind
    return "dma" if "dma" in word else "other"


def kind_title(kind: str) -> str:
    """Return the kind as it is shown to the user."""
    return _TITLES.get(kind, kind.capitalize())


def summarize(trace: Trace) -> Summary:
    """Return the figures of `trace`; a few sorts, so a million events take a second or two."""
    sweep = _Sweep(trace)
    total = trace.total_ps
    kinds = [queue_kind(name) for name in trace.queue_names]
    kind_of_queue = np.array([KINDS.index(kind) for kind in kinds], np.int64)
    kind_busy = sweep.union(kind_of_queue[trace.queue], len(KINDS))
    by_kind = {kind: int(ps) for kind, ps in zip(KINDS, kind_busy, strict=True) if ps}
    queues = _queue_uses(trace, sweep, kinds)
    moved = sum(q.bytes for q in queues if q.kind == "dma")
    pe_flops = sum(q.flops for q in queues if q.kind == "tensor")
    peak_flops, peak_bandwidth = _figure(trace, "pe_peak_tflops"), _figure(trace, "hbm_gb_per_s")
    hbm_bytes = int(trace.metadata.get("hbm_bytes_moved", moved))
    # ps x TFLOP/s are FLOPs; ps x GB/s are thousandths of a byte.
    mfu = pe_flops / (total * peak_flops) if peak_flops and total else None
    mbu = hbm_bytes * 1000 / (total * peak_bandwidth) if peak_bandwidth and total else None
    busy = min(int(sweep.union(np.zeros(len(trace), np.int64), 1)[0]), total)
    return Summary(
        total_ps=total,
        events=int(sweep.times.sum()),
        busy_ps=busy,
        idle_ps=total - busy,
        queues=queues,
        kinds=by_kind,
        groups=_group_uses(trace, sweep, kind_of_queue, total - busy),
        dma_bytes=moved,
        hbm_bytes=hbm_bytes,
        flops=sum(q.flops for q in queues),
        mfu=mfu,
        mbu=mbu,
        peaks={name: float(v.max()) for name, (_, v) in trace.counters.items() if len(v)},
        verdict=_verdict(total, busy, by_kind, mfu, mbu),
        exact=sweep.folded.exact,
    )


def _figure(trace: Trace, name: str) -> float:
    value = trace.metadata.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


class _Sweep:
    """The events in folded time, their times as ranks so that keys and times fit one integer."""

    def __init__(self, trace: Trace) -> None:
        self.folded: Folded = fold(trace)
        self.times = trace.multiplicity()
        self.row = self.folded.row
        ends = np.concatenate([self.folded.start_ps, self.folded.end_ps])
        self.instants, ranks = np.unique(ends, return_inverse=True)
        self.start, self.end = np.split(ranks.astype(np.int64), 2)
        self.measure = self.folded.measure(self.instants)
        self.order = np.argsort(self.start, kind="stable")

    def intervals(self, key_of_row: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Return (key, start, end): the disjoint intervals in which keys are active, in ranks."""
        key = key_of_row[self.row][self.order]
        order = self.order[np.argsort(key, kind="stable")]
        key, size = key_of_row[self.row][order], len(self.instants) + 1
        start, end = self.start[order] + key * size, self.end[order] + key * size
        reach = np.maximum.accumulate(end)
        opens = np.ones(len(start), bool)
        opens[1:] = (start[1:] > reach[:-1]) | (key[1:] != key[:-1])
        first = np.flatnonzero(opens)
        last = np.append(first[1:], len(start)) - 1 if len(first) else first
        return key[first], start[first] - key[first] * size, reach[last] - key[first] * size

    def union(self, key_of_row: NDArray[np.int64], keys: int) -> NDArray[np.int64]:
        """Return, for each key, the true time in which at least one of its events runs."""
        key, start, end = self.intervals(key_of_row)
        busy = np.zeros(keys, np.int64)
        np.add.at(busy, key, self.measure[end] - self.measure[start])
        return busy

    def shares(self, key_of_row: NDArray[np.int64], keys: int) -> NDArray[np.float64]:
        """Return each key's part of true time, each instant split equally among active keys."""
        key, start, end = self.intervals(key_of_row)
        size = len(self.instants) + 1
        active = np.cumsum(np.bincount(start, minlength=size) - np.bincount(end, minlength=size))[
            : max(len(self.instants) - 1, 0)
        ]
        part = np.diff(self.measure) / np.maximum(active, 1)
        upto = np.concatenate([[0.0], np.cumsum(part)])
        shares = np.bincount(key, weights=upto[end] - upto[start], minlength=keys)
        return np.asarray(shares, np.float64)


def _totals(column: NDArray[np.int64], key: NDArray[np.int64], keys: int) -> NDArray[np.int64]:
    total = np.zeros(keys, np.int64)
    np.add.at(total, key, column)
    return total


def _queue_uses(trace: Trace, sweep: _Sweep, kinds: list[str]) -> tuple[QueueUse, ...]:
    queue, size = trace.queue.astype(np.int64), len(trace.queue_names)
    busy = sweep.union(queue, size)
    events = _totals(sweep.times, queue, size)
    moved = _totals(trace.bytes * sweep.times, queue, size)
    flops = _totals(trace.flops * sweep.times, queue, size)
    return tuple(
        QueueUse(
            name=name,
            kind=kinds[i],
            events=int(events[i]),
            busy_ps=int(busy[i]),
            busy_share=int(busy[i]) / trace.total_ps if trace.total_ps else 0.0,
            bytes=int(moved[i]),
            flops=int(flops[i]),
        )
        for i, name in enumerate(trace.queue_names)
    )


def _group_uses(
    trace: Trace, sweep: _Sweep, kind_of_queue: NDArray[np.int64], idle_ps: int
) -> tuple[GroupUse, ...]:
    group, size, kinds = trace.group.astype(np.int64), len(trace.groups), len(KINDS)
    shares, active = sweep.shares(group, size), sweep.union(group, size)
    per_kind = sweep.union(group * kinds + kind_of_queue[trace.queue], size * kinds)
    per_kind = per_kind.reshape(size, kinds)
    events = _totals(sweep.times, group, size)
    moved = _totals(trace.bytes * sweep.times, group, size)
    flops = _totals(trace.flops * sweep.times, group, size)
    total = trace.total_ps or 1
    uses = [
        GroupUse(
            name=name or UNGROUPED,
            events=int(events[i]),
            share_ps=float(shares[i]),
            share=float(shares[i]) / total,
            active_ps=int(active[i]),
            busy_ps={kind: int(ps) for kind, ps in zip(KINDS, per_kind[i], strict=True) if ps},
            bytes=int(moved[i]),
            flops=int(flops[i]),
        )
        for i, name in enumerate(trace.groups)
        if events[i]
    ]
    if idle_ps > 0:
        uses.append(GroupUse(IDLE, 0, float(idle_ps), idle_ps / total, 0, {}, 0, 0))
    return tuple(uses)


def _verdict(
    total_ps: int, busy_ps: int, kinds: Mapping[str, int], mfu: float | None, mbu: float | None
) -> Verdict:
    if not total_ps or not kinds:
        return Verdict("nothing", "Nothing ran", ("The trace holds no time.",))
    shares = {kind: ps / total_ps for kind, ps in kinds.items()}
    ranked = sorted(shares, key=lambda kind: -shares[kind])
    busiest = ranked[0]
    reasons = [f"{kind_title(busiest)} is busy {share_text(shares[busiest])} of the time."]
    if len(ranked) > 1:
        reasons.append(f"Next is {kind_title(ranked[1])} with {share_text(shares[ranked[1]])}.")
    if mfu is not None:
        reasons.append(f"The tensor engine does {share_text(mfu)} of its peak FLOPs (MFU).")
    if mbu is not None:
        reasons.append(f"HBM moves {share_text(mbu)} of its peak bytes (MBU).")
    idle = 1 - busy_ps / total_ps
    if idle >= 0.005:
        reasons.append(f"Nothing at all runs in {share_text(idle)} of the time.")
    if shares[busiest] >= _BOUND_SHARE:
        return Verdict(busiest, f"{kind_title(busiest)} bound", tuple(reasons))
    reasons.append(
        f"No engine reaches {share_text(_BOUND_SHARE)}: the time goes into waiting (dependencies, "
        "fixed DMA and launch latency). Larger tiles, more overlap or a larger batch would help."
    )
    return Verdict("latency", "Latency bound", tuple(reasons))
