"""A naive timing simulator to compare with: exact fractions, one event after the other in time.

It shares nothing with `emuron.sim` but the queue of each instruction. Dependencies are found
element by element among all pairs of instructions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np

from emuron.hardware.chip import Chip
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Program
from emuron.isa.tensor import AccessPattern
from emuron.sim.sites import Sites

SECOND = Fraction(1000)  # ps in a ns


@dataclass
class Item:
    form: Form
    queue: str
    touched: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    waits: list[tuple[Item, Fraction]] = field(default_factory=list)
    start: Fraction | None = None
    trigger: Fraction | None = None
    end: Fraction | None = None
    done: Fraction | None = None
    left: Fraction = Fraction(0)
    read: list[Any] = field(default_factory=list)  # tensor and offset of each operand read
    redundant: bool = False


def total_ps(program: Program, chip: Chip) -> Fraction:
    """Return when a program without loops ends."""
    core = program.core
    sites = Sites(program)
    queues = [sites.queue_names[queue] for queue in sites.queue]
    items = _items(program, queues)
    _connect(items, core)
    _mark_redundant(items)
    machine = _Machine(core, chip)
    while any(item.done is None for item in items):
        machine.step(items)
    return max((item.done or Fraction(0) for item in items), default=Fraction(0))


def _items(program: Program, queues: list[str]) -> list[Item]:
    items = []
    for block, _ in program.leaves():
        for row in range(len(block)):
            item = Item(program.forms[block.form[row]], queues[len(items)])
            views = program.view(block, row)
            for view, (_, kind) in zip(views, item.form.operand_fields, strict=True):
                reads, writes = item.touched.setdefault(
                    view.tensor, (_nothing(view), _nothing(view))
                )
                if kind in READ_KINDS:
                    reads |= _mask(view)
                    item.read.append((view.tensor, int(view.offset)))
                if kind in WRITE_KINDS:
                    writes |= _mask(view)
            items.append(item)
    return items


def _nothing(view: AccessPattern) -> Any:
    return np.zeros(view.tensor.size, bool)


def _mask(view: AccessPattern) -> Any:
    mask = _nothing(view)
    index = np.full(view.shape, int(view.offset))
    for axis, (count, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        steps = np.arange(count) * stride
        index = index + steps.reshape([-1 if a == axis else 1 for a in range(len(view.shape))])
    mask[index.ravel()] = True
    return mask


def _connect(items: list[Item], core: Any) -> None:
    semaphore = Fraction(core.timing.semaphore_ns) * SECOND
    for number, later in enumerate(items):
        for earlier in items[:number]:
            after_write = in_order = False
            for tensor in later.touched.keys() & earlier.touched.keys():
                reads, writes = earlier.touched[tensor]
                new_reads, new_writes = later.touched[tensor]
                after_write |= bool((writes & new_reads).any())
                in_order |= bool(((writes | reads) & new_writes).any())
            own = earlier.queue == later.queue
            if (after_write and not (own and later.queue == "tensor")) or (in_order and not own):
                from_ring = earlier.queue.startswith("dma-")
                delay = Fraction(0) if from_ring else semaphore
                later.waits.append((earlier, _own_delay(core, later.queue) if own else delay))


def _mark_redundant(items: list[Item]) -> None:
    """Mark what computes again what an earlier instruction's tensor holds to the end."""
    for number, later in enumerate(items):
        for place, earlier in enumerate(items[:number]):
            same = earlier.form is later.form and earlier.read == later.read
            if same and _computes_afresh(later) and _lasts(earlier, items) and _lasts(later, items):
                between = items[place:number]
                sources = {tensor for tensor, _ in later.read}
                later.redundant |= not any(_written(item) & sources for item in between)


def _computes_afresh(item: Item) -> bool:
    kinds = {kind for _, kind in item.form.operand_fields}
    return item.form.cost.dma is None and "In" in kinds and kinds <= {"In", "Scalar", "Out"}


def _lasts(item: Item, items: list[Item]) -> bool:
    return not any(_written(other) & _written(item) for other in items if other is not item)


def _written(item: Item) -> set[Any]:
    return {tensor for tensor, (_, writes) in item.touched.items() if writes.any()}


def _own_delay(core: Any, queue: str) -> Fraction:
    """Return what an engine's own results are there before others see them, negative."""
    if queue.startswith("dma-"):
        return Fraction(0)
    own = Fraction(core.engine(queue).ps(core.timing.dependent_overhead_cycles))
    return min(Fraction(0), own - Fraction(core.timing.latency_ns(queue)) * SECOND)


class _Machine:
    def __init__(self, core: Any, chip: Chip) -> None:
        self.core, self.dma, self.timing = core, core.dma, core.timing
        self.now = Fraction(0)
        self.table: str | None = None
        self.warm = Fraction(0)
        usable = Fraction(chip.hbm_stack_gb_per_s) * Fraction(chip.hbm_efficiency)
        self.hbm = usable / SECOND  # bytes per ps

    def step(self, items: list[Item]) -> None:
        """Do the next thing that happens in time."""
        events = []
        for queue in {item.queue for item in items}:
            line = [item for item in items if item.queue == queue]
            if queue.startswith("dma-"):
                events += self._ring_events(line)
            else:
                events += self._engine_events(line)
        flowing = [item for item in items if item.form.cost.dma and item.start is not None]
        flowing = [item for item in flowing if item.done is None]
        rates = self._rates(flowing)
        events += [(self.now + i.left / rates[id(i)], 0, i, "end") for i in flowing]
        time, _, item, kind = min(events, key=lambda event: (event[0], event[1]))
        for other in flowing:
            other.left -= rates[id(other)] * max(Fraction(0), time - self.now)
        self.now = max(self.now, time)
        getattr(self, f"_{kind}")(item, time, items)

    def _engine_events(self, line: list[Item]) -> list[Any]:
        waiting = [item for item in line if item.start is None]
        if not waiting or (ready := _ready(waiting[0])) is None:
            return []
        return [(self._begin(waiting[0], line, ready), 1, waiting[0], "run")]

    def _begin(self, item: Item, line: list[Item], ready: Fraction) -> Fraction:
        past = [other for other in line if other.start is not None]
        free = past[-1].end if past else Fraction(0)
        if item.redundant:
            return max(free, ready)
        cost = item.form.cost
        if cost.table is not None and cost.table != self.table:
            free += Fraction(self.timing.act_table_load_ns) * SECOND
        setup = Fraction(self.core.engine(item.queue).ps(cost.setup_cycles))
        return max(free, max(past[-1].start if past else Fraction(0), ready) + setup)

    def _run(self, item: Item, time: Fraction, items: list[Item]) -> None:
        past = [i for i in items if i.queue == item.queue and i.start is not None]
        if item.redundant:
            item.start = item.end = time
            item.done = max([time, *(i.done for i in past)])
            return
        engine, cost = self.core.engine(item.queue), item.form.cost
        busy = Fraction(engine.ps(cost.cycles))
        throttle = self.timing.throttle
        if item.queue == "tensor" and throttle is not None:
            ramp = Fraction(throttle.ramp_us) * 1_000_000
            floor, rearm = Fraction(throttle.initial_utilisation), throttle.rearm_below_utilisation
            idle = time - (past[-1].end if past else Fraction(0))
            self.warm = max(Fraction(0), self.warm - idle * Fraction(rearm / (1 - rearm)))
            busy /= floor + (1 - floor) * self.warm / ramp
            self.warm = min(ramp, self.warm + busy)
        self.table = cost.table if cost.table is not None else self.table
        item.start, item.end = time, time + busy
        latency = Fraction(self.timing.latency_ns(item.queue)) * SECOND
        latency += engine.ps(cost.extra_latency_cycles)
        item.done = max([item.end + latency, *(i.done for i in past)])

    def _ring_events(self, line: list[Item]) -> list[Any]:
        events: list[Any] = []
        fresh = [item for item in line if item.trigger is None]
        past = [item for item in line if item.trigger is not None]
        if fresh and (ready := _ready(fresh[0])) is not None:
            depth = self.timing.queue_depth
            oldest = past[-depth].done if len(past) >= depth else Fraction(0)
            if oldest is not None:
                pair = Fraction(self.dma.trigger_ns) + Fraction(self.dma.trigger_second_ns)
                free = past[-1].trigger + pair * SECOND if past else Fraction(0)
                events.append((max(free, ready, oldest), 1, fresh[0], "pull"))
        unmoved = [item for item in past if item.done is None]
        if unmoved and unmoved[0].start is None:
            before = Fraction(self.dma.fixed_before_ns) * SECOND
            events.append((max(self.now, unmoved[0].trigger + before), 2, unmoved[0], "flow"))
        return events

    def _pull(self, item: Item, time: Fraction, items: list[Item]) -> None:
        item.trigger = time

    def _flow(self, item: Item, time: Fraction, items: list[Item]) -> None:
        item.start, item.left = time, self._work(item)

    def _end(self, item: Item, time: Fraction, items: list[Item]) -> None:
        past = [i.done for i in items if i.queue == item.queue and i.done is not None]
        after = Fraction(self.dma.fixed_ns) - Fraction(self.dma.fixed_before_ns)
        item.left, item.end = Fraction(0), time
        item.done = max([time + after * SECOND, *past])

    def _work(self, item: Item) -> Fraction:
        """Return the time with all engines of the core."""
        cost, dma = item.form.cost.dma, self.dma
        assert cost is not None
        engines = self._engines(item)
        size = Fraction(cost.bytes, cost.descriptors)
        floor = dma.element_min_ns if size >= dma.element_full_bytes else dma.small_element_min_ns
        element = max(Fraction(floor), size * dma.engines / Fraction(dma.core_gb_per_s))
        rounds = ceil(Fraction(cost.descriptors, engines))
        busy = rounds * element / Fraction(cost.rate)
        busy += ceil(Fraction(cost.hbm_jumps, engines)) * Fraction(dma.hbm_jump_ns)
        return busy * SECOND * engines / dma.engines

    def _engines(self, item: Item) -> int:
        cost = item.form.cost.dma
        assert cost is not None
        most = min(self.dma.engines, cost.descriptors)
        if cost.partitions is None:
            return most
        return min(most, ceil(Fraction(cost.partitions, self.dma.partitions_per_engine)))

    def _rates(self, flowing: list[Item]) -> dict[int, Fraction]:
        """Raise all shares together until each is held by its cap, the DMA or the HBM."""
        rates = {id(item): Fraction(0) for item in flowing}
        rising = list(flowing)
        while rising:
            demands = {id(i): Fraction(i.form.cost.dma.hbm_bytes) / self._work(i) for i in flowing}
            dma_left = 1 - sum(rates.values())
            hbm_left = self.hbm - sum(demands[i] * rate for i, rate in rates.items())
            traffic = sum(demands[id(item)] for item in rising)
            steps = [self._cap(item) - rates[id(item)] for item in rising]
            steps.append(dma_left / len(rising))
            if traffic:
                steps.append(hbm_left / traffic)
            step = min(steps)
            for item in rising:
                rates[id(item)] += step
            full, dry = step == dma_left / len(rising), traffic and step == hbm_left / traffic
            rising = [
                item
                for item in rising
                if not full
                and not (dry and demands[id(item)])
                and rates[id(item)] < self._cap(item)
            ]
        return rates

    def _cap(self, item: Item) -> Fraction:
        return Fraction(self._engines(item), self.dma.engines)


def _ready(item: Item) -> Fraction | None:
    times = []
    for other, delay in item.waits:
        if other.done is None:
            return None
        times.append(other.done + delay)
    return max(times, default=Fraction(0))
