"""Hints: what to fix first in a kernel: rules that measure, name a line and say the way out.

Each rule looks for one loss and estimates how much shorter the run would be without it. An estimate
never exceeds what the line's time on the critical path allows, and is made as if all else stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from emuron.trace.bounds import reread_bytes
from emuron.trace.evidence import Evidence, Hint
from emuron.trace.quantity import bytes_text, duration_text, share_text
from emuron.trace.summary import kind_title, queue_kind
from emuron.trace.work import Work

_FEWEST_EVENTS = 3  # what happens once or twice is no pattern
_LEAST_SHARE = 0.005  # of the run: smaller gains are not worth a reader's time
_BUSY_SHARE = 0.6
_ENGINES = ("tensor", "vector", "scalar", "gpsimd")


def find_hints(evidence: Evidence) -> tuple[Hint, ...]:
    """Return the hints whose gain is worth while, the largest gain first."""
    least = evidence.summary.total_ps * _LEAST_SHARE
    found = [hint for rule in RULES for hint in rule(evidence) if hint.gain_ps > least]
    return tuple(sorted(found, key=lambda hint: (-hint.gain_ps, hint.rule, hint.line)))


def _by_line(works: Iterable[Work]) -> Iterator[tuple[str, list[Work]]]:
    lines: dict[str, list[Work]] = {}
    for work in works:
        lines.setdefault(work.group, []).append(work)
    yield from lines.items()


def _total(works: Iterable[Work], of: Callable[[Work], float]) -> float:
    return sum(work.count * of(work) for work in works)


def small_dma_rows(evidence: Evidence) -> Iterator[Hint]:
    """Find transfers whose contiguous runs are too short for the DMA engines."""
    full = evidence.figures.full_row_bytes
    short = (w for w in evidence.works if w.engine == "dma" and 0 < w.row_bytes < full)
    for line, works in _by_line(short):
        least = min(w.row_bytes for w in works)
        moved = _total(works, lambda w: w.bytes)
        lost = _total(works, lambda w: w.busy_ps) - moved * 1000 / evidence.figures.dma_gb_per_s
        descriptors = int(_total(works, lambda w: w.descriptors))
        yield Hint(
            "small-dma-rows",
            line,
            "dma",
            f"{descriptors:,} runs of {least} bytes and more move {bytes_text(moved)}; "
            f"runs under {full} bytes waste the DMA engines",
            {"row_bytes": least, "descriptors": descriptors, "bytes": moved, "limit_bytes": full},
            evidence.at_most(line, "dma", lost),
            f"Move rows of {full} bytes or more (best 2 KiB in each partition): load a wider tile "
            "once and slice it in SBUF, or lay the tensor out so that a row is contiguous.",
        )


def cold_tensor_engine(evidence: Evidence) -> Iterator[Hint]:
    """Find matmuls that ran slower than at full clock, because the engine had idled."""
    for line, works in _by_line(w for w in evidence.works if w.engine == "tensor"):
        ideal, actual = _total(works, lambda w: w.busy_ps), evidence.busy_ps(line, "tensor")
        lost = actual - ideal
        if lost > 0:
            yield Hint(
                "cold-tensor-engine",
                line,
                "tensor",
                f"matmuls took {duration_text(actual)}, at full clock {duration_text(ideal)}: "
                "after idling the tensor engine is throttled",
                {"busy_us": actual / 1e6, "full_clock_us": ideal / 1e6},
                evidence.at_most(line, "tensor", lost, shorter=False),
                "Keep the tensor engine fed: load the next tiles while it works (two buffers), and "
                "issue all matmuls of a block in one run.",
            )


def activation_table_loads(evidence: Evidence) -> Iterator[Hint]:
    """Find lines that make the scalar engine change its table of functions again and again."""
    each = evidence.figures.table_load_ps
    if sum(evidence.table_loads.values()) < _FEWEST_EVENTS:
        return
    for line, loads in evidence.table_loads.items():
        yield Hint(
            "activation-table-loads",
            line,
            "scalar",
            f"{loads} activation-table loads of {duration_text(each)} each",
            {"loads": loads, "load_us": each / 1e6},
            evidence.at_most(line, "scalar", loads * each),
            "Run all activations of one function before those of another, or use functions of one "
            "table (exp instead of tanh or sigmoid); simple ones also run on the vector engine.",
        )


def single_buffered_tiles(evidence: Evidence) -> Iterator[Hint]:
    """Find transfers that wait for what in turn waits for them: one buffer."""
    held = evidence.waited(lambda w: queue_kind(w.for_queue) == "dma" != queue_kind(w.queue))
    freed: dict[str, int] = {}
    for wait in evidence.waits:
        if queue_kind(wait.queue) == "dma" and wait.for_group != wait.group:
            freed[wait.group] = freed.get(wait.group, 0) + wait.events
    for (line, _), (ps, events) in held.items():
        if min(events, freed.get(line, 0)) < _FEWEST_EVENTS:
            continue
        yield Hint(
            "single-buffered",
            line,
            "dma",
            f"engines stood still {duration_text(ps)} for these transfers, {events} times, and the "
            f"transfers {freed[line]} times for their tile to be free",
            {"wait_us": ps / 1e6, "events": events, "freed_events": freed[line]},
            evidence.at_most(line, "dma", ps, shorter=False),
            "Give every iteration a tile of its own (allocate it inside the loop), or take two or "
            "three buffers in turn, so that a transfer runs while an engine works.",
        )


def waiting_tensor_engine(evidence: Evidence) -> Iterator[Hint]:
    """Find what the tensor engine waits for: copies out of PSUM, or the next step of a chain."""
    evictions = {w.group for w in evidence.works if w.reads_psum}
    held = evidence.waited(
        lambda w: (
            queue_kind(w.queue) == "tensor"
            and queue_kind(w.for_queue) in ("vector", "scalar", "gpsimd")
        )
    )
    for (line, engine), (ps, events) in held.items():
        if events < _FEWEST_EVENTS:
            continue
        rule, way_out = "serial-chain", (
            "Interleave independent blocks: issue the matmuls of the next one before this step, so "
            "that the tensor engine has work meanwhile."
        )  # fmt: skip
        if line in evictions:
            rule, way_out = "slow-psum-evictions", (
                "Let results rotate through more PSUM banks (there are 8), and share the copies "
                "out of PSUM between the vector and the scalar engine."
            )  # fmt: skip
        yield Hint(
            rule,
            line,
            engine,
            f"the tensor engine stood still {duration_text(ps)} for {kind_title(engine)}, "
            f"{events} times",
            {"wait_us": ps / 1e6, "events": events},
            evidence.at_most(line, engine, ps, shorter=False),
            way_out,
        )


def dependent_instructions(evidence: Evidence) -> Iterator[Hint]:
    """Find instructions that each wait for the result of the one before on the same engine."""
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for wait in evidence.waits:
        engine = queue_kind(wait.queue)
        if wait.queue == wait.for_queue and engine in _ENGINES:
            ps, events = sums.get((wait.group, engine), (0, 0))
            sums[wait.group, engine] = (ps + wait.wait_ps, events + wait.events)
    for (line, engine), (waited, events) in sums.items():
        loads = evidence.table_loads.get(line, 0) if engine == "scalar" else 0
        ps, count = waited - loads * evidence.figures.table_load_ps, events - loads
        if count >= _FEWEST_EVENTS:
            yield Hint(
                "dependent-instructions",
                line,
                engine,
                f"{kind_title(engine)} stood still {duration_text(ps)} before {count} instructions "
                "that need the result of the one before",
                {"wait_us": ps / 1e6, "events": count},
                evidence.at_most(line, engine, ps, shorter=False),
                "Work on two independent tiles in turn, or do more in one instruction: "
                "tensor_scalar takes two operators, activation a scale and a bias.",
            )


def software_descriptors(evidence: Evidence) -> Iterator[Hint]:
    """Find transfers whose descriptors GpSimd software writes."""
    each = evidence.figures.software_descriptor_ps
    for line, works in _by_line(w for w in evidence.works if w.trigger == "swdge"):
        count = int(_total(works, lambda w: 1))
        yield Hint(
            "software-descriptors",
            line,
            "dma",
            f"{count} transfers with descriptors written by GpSimd software, "
            f"{duration_text(each)} more each",
            {"transfers": count, "extra_us": each / 1e6},
            evidence.at_most(line, "dma", count * each),
            "Use static addresses or dge_mode=hwdge where no row indices are needed; gather many "
            "rows with one instruction.",
        )


def short_instructions(evidence: Evidence) -> Iterator[Hint]:
    """Find instructions of so few elements that the engine's least issue time decides."""
    floor = evidence.figures.shortest_cycles
    short = (w for w in evidence.works if w.engine in _ENGINES and 0 < w.elements < floor)
    for line, works in _by_line(short):
        count, busy = int(_total(works, lambda w: 1)), _total(works, lambda w: w.busy_ps)
        lost = _total(works, lambda w: w.busy_ps * (1 - w.elements / floor))
        elements = max(w.elements for w in works)
        yield Hint(
            "short-instructions",
            line,
            works[0].engine,
            f"{count:,} instructions of at most {elements} elements a partition; each takes at "
            f"least {floor} cycles, together {duration_text(busy)}",
            {"instructions": count, "elements": elements, "floor_cycles": floor},
            evidence.at_most(line, works[0].engine, lost),
            f"Work on tiles of {floor} elements and more: let one instruction cover several rows, "
            "heads or blocks in its free dimensions.",
        )


def fp32_matmuls(evidence: Evidence) -> Iterator[Hint]:
    """Find matmuls of fp32 operands, which take several passes."""
    passes = evidence.figures.fp32_passes
    multiplied = (w for w in evidence.works if w.engine == "tensor" and w.flops)
    for line, works in _by_line(w for w in multiplied if "float32" in w.dtypes[1:]):
        busy = _total(works, lambda w: w.busy_ps)
        count = int(_total(works, lambda w: 1))
        yield Hint(
            "fp32-matmuls",
            line,
            "tensor",
            f"{count:,} fp32 matmuls take {duration_text(busy)}, {passes} passes each",
            {"matmuls": count, "busy_us": busy / 1e6, "passes": passes},
            evidence.at_most(line, "tensor", busy * (1 - 1 / passes)),
            "Give the operands as bfloat16 (PSUM still adds in fp32); for operands of zeros and "
            "ones set is_stationary_onezero or is_moving_onezero.",
        )


def wide_vector_types(evidence: Evidence) -> Iterator[Hint]:
    """Find vector work on fp32 that 16-bit types would do in a faster mode."""
    fast = evidence.figures.perf_dtypes
    modes = ("tensor_copy", "tensor_scalar", "tensor_tensor")
    on_vector = (w for w in evidence.works if w.engine == "vector" and w.mnemonic in modes)
    wide = (w for w in on_vector if fast and not set(w.dtypes) <= set(fast))
    if evidence.summary.kinds.get("vector", 0) < _BUSY_SHARE * evidence.summary.total_ps:
        return
    for line, works in _by_line(wide):
        busy = _total(works, lambda w: w.busy_ps)
        dtypes = " and ".join(sorted({d for w in works for d in w.dtypes}))
        yield Hint(
            "wide-vector-types",
            line,
            "vector",
            f"{duration_text(busy)} on {dtypes}; the faster modes take {', '.join(fast)}",
            {"busy_us": busy / 1e6},
            evidence.at_most(line, "vector", busy / 2),
            "Keep the tiles in bfloat16 in SBUF, contiguous in their last dimension: the vector "
            "engine then takes two to four elements a cycle.",
        )


def few_partitions(evidence: Evidence) -> Iterator[Hint]:
    """Find instructions that use few of the partitions: the other lanes idle."""
    lanes = evidence.figures.partitions
    narrow = (w for w in evidence.works if w.engine in _ENGINES and 0 < w.partitions <= lanes // 2)
    for line, works in _by_line(narrow):
        busy = _total(works, lambda w: w.busy_ps)
        used = max(w.partitions for w in works)
        yield Hint(
            "few-partitions",
            line,
            works[0].engine,
            f"{duration_text(busy)} of work on at most {used} of {lanes} partitions",
            {"busy_us": busy / 1e6, "partitions": used, "limit": lanes},
            evidence.at_most(line, works[0].engine, busy * (1 - used / lanes)),
            f"Lay the data out over all {lanes} partitions: put another dimension (rows, heads, "
            "blocks) on the partitions, or process several tiles at once.",
        )


def reread_tensors(evidence: Evidence) -> Iterator[Hint]:
    """Find tensors that are read from HBM more than once."""
    sizes = {t.tensor: t.size_bytes for t in evidence.traffic}
    spent = evidence.summary.kinds.get("dma", 0)
    for tensor, excess in reread_bytes(evidence.traffic).items():
        times = 1 + excess / max(1, sizes[tensor])
        yield Hint(
            "reread-tensor",
            tensor,
            "dma",
            f"{tensor} ({bytes_text(sizes[tensor])}) is read {times:.1f} times from HBM, "
            f"{bytes_text(excess)} more than once",
            {"size_bytes": sizes[tensor], "excess_bytes": excess, "times": times},
            round(
                min(excess * 1000 / evidence.figures.hbm_gb_per_s, spent, evidence.on_path("dma"))
            ),
            "Hoist its loads out of the loop, or keep a larger block of it in SBUF and work on "
            "that before loading the next.",
        )


def one_busy_engine(evidence: Evidence) -> Iterator[Hint]:
    """Find an engine that bounds the run while one that could share its work idles."""
    total = evidence.summary.total_ps or 1
    busy = {kind: evidence.summary.kinds.get(kind, 0) for kind in ("vector", "scalar", "gpsimd")}
    busiest = max(busy, key=lambda kind: busy[kind])
    helper = min(("vector", "scalar"), key=lambda kind: busy[kind])
    if busy[busiest] < _BUSY_SHARE * total or busy[helper] > busy[busiest] / 2:
        return
    lines = [group for group in evidence.summary.groups if group.busy_ps.get(busiest)]
    line = max(lines, key=lambda group: group.busy_ps[busiest])
    yield Hint(
        "one-busy-engine",
        line.name,
        busiest,
        f"{kind_title(busiest)} is busy {share_text(busy[busiest] / total)}, "
        f"{kind_title(helper)} {share_text(busy[helper] / total)}; this line is its largest part",
        {"busy_share": busy[busiest] / total, "helper_share": busy[helper] / total},
        evidence.at_most(line.name, busiest, (busy[busiest] - busy[helper]) / 2),
        f"Move work to {kind_title(helper)}: copies, scaling and biases run on the vector and the "
        "scalar engine (engine=nisa.engine…, activation with scale and bias).",
    )


Rule = Callable[[Evidence], Iterator[Hint]]

RULES: tuple[Rule, ...] = (
    small_dma_rows,
    cold_tensor_engine,
    activation_table_loads,
    single_buffered_tiles,
    waiting_tensor_engine,
    dependent_instructions,
    software_descriptors,
    short_instructions,
    fp32_matmuls,
    wide_vector_types,
    few_partitions,
    reread_tensors,
    one_busy_engine,
)
