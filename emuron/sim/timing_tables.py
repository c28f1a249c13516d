"""The flat tables of the timing engine, from the code of the cores that run together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from emuron.hardware.chip import NeuronCore
from emuron.sim import timing_layout as at
from emuron.sim.footprints import Column
from emuron.sim.partners import OTHER_CORE
from emuron.sim.timing_code import CoreCode, QueueCode

_FEWEST_EVENTS = 1 << 10


class Queues:
    """The queues of all cores in the engine's order: the engines of each core, then all rings."""

    def __init__(self, codes: Sequence[CoreCode]) -> None:
        self.codes = codes
        every = [(c, q) for c, code in enumerate(codes) for q in range(len(code.queues))]
        self.all = sorted(every, key=lambda entry: codes[entry[0]].sites.is_ring(entry[1]))
        self.rings = sum(codes[c].sites.is_ring(q) for c, q in every)

    def name(self, number: int) -> str:
        """Return the name of a queue; with several cores it begins with the core's."""
        core, queue = self.all[number]
        own = self.codes[core].sites.queue_names[queue]
        return f"nc{core}/{own}" if len(self.codes) > 1 else own

    def __iter__(self) -> Iterator[tuple[int, QueueCode]]:
        for core, queue in self.all:
            yield core, self.codes[core].queues[queue]

    def __len__(self) -> int:
        return len(self.all)

    def numbers(self, core: int) -> Column:
        """Return the number of each queue of a core."""
        own = [(queue, number) for number, (c, queue) in enumerate(self.all) if c == core]
        return np.array([number for _, number in sorted(own)], np.int64)


def build_tables(queues: Queues, core: NeuronCore, hbm_share: int) -> at.Tables:
    """Return the engine's tables; `hbm_share` is in bytes/ps << FRACTION."""
    return _Builder(queues, core).tables(hbm_share)


class _Builder:
    def __init__(self, queues: Queues, core: NeuronCore) -> None:
        self._queues = queues
        self._core = core
        codes = [code for _, code in queues]
        self._pools = at.HEAD + len(queues) * at.QUEUE
        self._rows = self._pools + len(queues.codes) * at.POOL
        self._waits = self._rows + sum(code.rows_size for code in codes)
        self._loops = self._waits + sum(code.waits_size for code in codes)
        self._nests = self._loops + at.LOOP_RECORD * sum(len(code.loops) for code in codes)
        nests = sum(len(code.nests) for code in queues.codes)
        self._projections = self._nests + at.NEST_RECORD * nests
        self._slopes = self._projections + len(queues) * nests
        self._loop_count = sum(len(code.loops) for code in codes)

    def tables(self, hbm_share: int) -> at.Tables:
        """Return the engine's tables as arrays."""
        first_nest = np.cumsum([0, *(len(code.nests) for code in self._queues.codes)]).tolist()
        numbers = [self._queues.numbers(core) for core in range(len(self._queues.codes))]
        rows, waits, loops = self._rows, self._waits, self._loops
        slopes, history = self._slopes, 0
        records: list[list[int]] = []
        placed: list[_Placed] = []
        for number, (core, code) in enumerate(self._queues):
            room = max(_FEWEST_EVENTS, code.rows_size // at.ROW)
            record = self._queue_record(number, core, (rows, waits, history, room))
            record[at.END] += code.rows_size
            records.append(record)
            part = _Placed(code)
            part.place(rows, waits, loops, self._nests + at.NEST_RECORD * first_nest[core])
            part.place_waits(core, numbers)
            slopes = part.place_slopes(slopes)
            placed.append(part)
            rows, waits = rows + code.rows_size, waits + code.waits_size
            loops += at.LOOP_RECORD * len(code.loops)
            history += room
        parts: list[object] = [self._head(hbm_share), *records, [0] * (self._rows - self._pools)]
        parts += [part.rows for part in placed] + [part.waits for part in placed]
        parts += [record for part in placed for record in part.loops]
        parts += self._nest_records(numbers)
        nests = range(self._nests, self._projections, at.NEST_RECORD)
        parts += [part.projection(nest) for nest in nests for part in placed]
        parts += [part.slopes for part in placed]
        m = np.concatenate([np.asarray(part, np.int64).ravel() for part in parts])
        working = np.zeros(len(self._queues) + int(m[at.STATE_SIZE]), np.int64)
        m[at.STACK], m[at.SCRATCH] = len(m), len(m) + len(self._queues)
        m = np.concatenate([m, working])
        return at.Tables(m, np.zeros(history * at.EVENT, np.int64), np.zeros(0, np.int64))

    def _queue_record(self, number: int, core: int, places: tuple[int, int, int, int]) -> list[int]:
        rows, waits, history, room = places
        record = [0] * at.QUEUE
        record[at.PC] = record[at.END] = rows
        record[at.HISTORY] = record[at.FIRST] = history
        record[at.HISTORY_END] = history + room
        record[at.NEXT_WAIT] = waits
        record[at.TABLE] = record[at.SEGMENTS] = -1
        record[at.NUMBER] = number
        record[at.IS_DMA] = int(number >= len(self._queues) - self._queues.rings)
        record[at.POOL_OF] = self._pools + core * at.POOL
        return record

    def _nest_records(self, numbers: list[Column]) -> list[list[int]]:
        records: list[list[int]] = []
        for core, code in enumerate(self._queues.codes):
            for nest in code.nests:
                record = [*nest]
                record[at.LEADER] = at.HEAD + int(numbers[core][nest[at.LEADER]]) * at.QUEUE
                record[at.PROJECTIONS] = self._projections + len(records) * len(self._queues)
                records.append(record)
        return records

    def _head(self, hbm_share: int) -> list[int]:
        timing, count = self._core.timing, len(self._queues)
        head = [0] * at.HEAD
        head[at.HBM_SHARE] = hbm_share
        head[at.TABLE_LOAD] = round(timing.act_table_load_ns * 1000)
        head[at.DEPTH] = timing.queue_depth
        head[at.LAST_REPEAT] = -1
        head[at.QUEUES_FROM] = at.HEAD
        head[at.QUEUES_TO] = self._pools
        head[at.RINGS_FROM] = at.HEAD + (count - self._queues.rings) * at.QUEUE
        head[at.QUEUE_COUNT] = count
        head[at.POOLS_FROM], head[at.POOLS_TO] = self._pools, self._rows
        head[at.LOOPS_TO] = self._nests
        per_queue = at.STATE_FIELDS + at.MOST_HISTORY + 2 * timing.queue_depth
        head[at.STATE_SIZE] = 2 + count * per_queue + self._loop_count
        throttle = timing.throttle
        if throttle is not None:
            head[at.RAMP] = round(throttle.ramp_us * 1_000_000)
            head[at.FLOOR] = round(throttle.initial_utilisation * at.ONE)
            # At the utilisation that re-arms the limit, work and idle time cancel out.
            rearm = throttle.rearm_below_utilisation
            head[at.IDLE_WEIGHT] = round(rearm / (1 - rearm) * at.ONE)
        return head


class _Placed:
    """The code of a queue with its pointers at their final values."""

    def __init__(self, code: QueueCode) -> None:
        self.rows = np.concatenate([np.zeros((0, at.ROW), np.int64), *code.rows])
        self.waits = np.concatenate([np.zeros((0, at.WAIT), np.int64), *code.waits])
        self.loops = [[*record] for record in code.loops]
        self.slopes: list[int] = []
        self._levels = code.levels
        self._pointers: dict[int, int] = {}  # of a loop's number: its record for this queue

    def place(self, rows: int, waits: int, loops: int, nests: int) -> None:
        """Let pointers count from these starts of the queue's rows, waits, loops and nests."""
        back = self.rows[:, at.KIND] == at.BACK_EDGE
        ends = self.rows[:, at.WAIT_END] + waits
        self.rows[:, at.WAIT_END] = np.where(back, self.rows[:, at.WAIT_END], ends)
        self.rows[back, at.LOOP] = loops + self.rows[back, at.LOOP] * at.LOOP_RECORD
        for number, record in enumerate(self.loops):
            record[at.SLOPES] = record[at.WAITS_FROM] // at.WAIT
            for pointer, start in (
                (at.BODY, rows),
                (at.BODY_END, rows),
                (at.WAITS_FROM, waits),
                (at.WAITS_TO, waits),
            ):
                record[pointer] += start
            if record[at.PARENT] >= 0:
                record[at.PARENT] = loops + record[at.PARENT] * at.LOOP_RECORD
            record[at.NEST] = nests + record[at.NEST] * at.NEST_RECORD
            self._pointers[record[at.NEST]] = loops + number * at.LOOP_RECORD

    def place_waits(self, core: int, numbers: list[Column]) -> None:
        """Let the waits of a core name their queues by pointer; `numbers` has those of each core.

        Where one core stands for all, it waits for itself.
        """
        away, queue = np.divmod(self.waits[:, at.WAIT_QUEUE], OTHER_CORE)
        for number in np.unique(away).tolist():
            of_core = numbers[(core + number) % len(numbers)]
            own = away == number
            self.waits[own, at.WAIT_QUEUE] = at.HEAD + of_core[queue[own]] * at.QUEUE

    def place_slopes(self, start: int) -> int:
        """Lay out the slopes of the loops from `start`; return where they end."""
        depths: dict[int, int] = {-1: -1}
        for pointer, record in zip(self._pointers.values(), self.loops, strict=True):
            depths[pointer] = depth = depths[record[at.PARENT]] + 1
            first = record[at.SLOPES]
            last = first + (record[at.WAITS_TO] - record[at.WAITS_FROM]) // at.WAIT
            record[at.SLOPES] = start + len(self.slopes)
            self.slopes += [self._levels[wait][depth] for wait in range(first, last)]
        return start + len(self.slopes)

    def projection(self, nest: int) -> list[int]:
        """Return the pointer to the queue's record of a nest (a pointer), -1 if it is not in it."""
        return [self._pointers.get(nest, -1)]
