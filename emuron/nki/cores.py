"""Several cores run one kernel: in threads of which exactly one goes on at a time.

A core runs until it must wait for others (`sendrecv`, `core_barrier`, collectives); then the next
one in order does that can. The order never depends on time, so that each run is the same.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from emuron.errors import DeadlockError, EmuronError, UsageError
from emuron.isa.meetings import CoreId, Meeting, Operands
from emuron.isa.tensor import Tensor
from emuron.numerics.backend import Backend

Topic = tuple[Hashable, tuple[CoreId, ...]]
Part = tuple[Meeting, Operands | None]


class _StoppedError(BaseException):
    """Ends a core's function after another one has failed; kernels do not catch it."""


@dataclass(slots=True, eq=False)
class _Appointment:
    """One meeting, and what each core has brought to it so far."""

    topic: Topic
    number: int
    parts: dict[CoreId, Part] = field(default_factory=dict)


class Seat:
    """One core's place in a team: its number and tensors, and what it waits for."""

    def __init__(self, team: Team, core: CoreId) -> None:
        self.id = core
        self.cores = team.cores
        self.ranks = team.ranks
        self.name = team.name_of(core)
        self.place: Callable[[], str] = str
        self.turn = threading.Semaphore(0)
        self.awaited: _Appointment | None = None
        self.has_ended = False
        self.result: Any = None
        self._team = team
        self._met: Counter[Topic] = Counter()
        self._named: Counter[str] = Counter()

    def meet(self, instruction: Meeting, operands: Operands | None) -> None:
        """Wait until all that take part have come to the instruction; move data, if there are.

        Raises UsageError where their instructions do not fit, DeadlockError where one never comes.
        """
        topic = instruction.meets(self.id, self.cores)
        self._team.check_present(instruction, topic[1])
        self._met[topic] += 1
        self._team.attend(self, topic, self._met[topic], (instruction, operands))

    def shared(self, tensor: Tensor, name: str) -> Tensor:
        """Return the rank's tensor that stands for this core's: the n-th of its name.

        Raises UsageError where the cores give it different shapes or dtypes.
        """
        self._named[name] += 1
        key = (self.id.rank, name, self._named[name])
        found = self._team.tensors.setdefault(key, tensor)
        if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            called = f"called '{name}'" if name else "without a name"
            raise UsageError(
                f"Tensor number {key[2]} in shared_hbm {called} is {list(found.shape)} "
                f"{found.dtype} on one core and {list(tensor.shape)} {tensor.dtype} on core "
                f"{self.id.number}. The cores share it: allocate the same on each, or give "
                "different tensors different names."
            )
        return found


class Team:
    """The cores that run a kernel together: `cores` of each of `ranks` ranks.

    `on_meeting` is called with each rank whose cores all take part in a meeting, before it.
    """

    def __init__(self, cores: int, ranks: int, ops: Backend | None = None) -> None:
        self.on_meeting: Callable[[int], None] | None = None
        self.cores = cores
        self.ranks = ranks
        self.tensors: dict[tuple[int, str, int], Tensor] = {}
        ids = [CoreId(rank, number) for rank in range(ranks) for number in range(cores)]
        self.seats = {core: Seat(self, core) for core in ids}
        self._ops = ops
        self._order = list(self.seats.values())
        self._open: dict[tuple[Topic, int], _Appointment] = {}
        self._failure: BaseException | None = None

    def run(self, functions: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run a function for each core, the first in the caller's thread; return their results.

        Raises what the first core to fail raised; the others stop where they wait.
        """
        first, *others = zip(self._order, functions, strict=True)
        threads = [
            threading.Thread(
                target=copy_context().run, args=(self._take_turn, *other), name=str(other[0].id)
            )
            for other in others
        ]
        for thread in threads:
            thread.daemon = True  # Ctrl-C ends a session although a kernel runs on
            thread.start()
        self._work(*first)
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return [seat.result for seat in self._order]

    def check_present(self, instruction: Meeting, cores: tuple[CoreId, ...]) -> None:
        """Raise UsageError if one of the cores does not run the kernel."""
        absent = sorted({core.rank for core in cores if core not in self.seats})
        if absent:
            runs = "one rank" if self.ranks == 1 else f"{self.ranks} ranks, from 0 on"
            raise UsageError(
                f"{instruction.mnemonic} names rank {', '.join(map(str, absent))}, but the kernel "
                f"runs on {runs}. Launch it with nki.simulate_ranks(kernel, inputs), where inputs "
                "has the arguments of each rank."
            )

    def _take_turn(self, seat: Seat, function: Callable[[], Any]) -> None:
        seat.turn.acquire()
        if self._failure is None:
            self._work(seat, function)
        else:
            self._end(seat)

    def _work(self, seat: Seat, function: Callable[[], Any]) -> None:
        try:
            seat.result = function()
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            self._failure = self._failure or error
        self._end(seat)

    def _end(self, seat: Seat) -> None:
        seat.has_ended = True
        self._pass_on(seat)

    def attend(self, seat: Seat, topic: Topic, number: int, part: Part) -> None:
        """Bring a core's part to the n-th meeting of a topic and wait for the others."""
        if self._failure is not None:
            raise _StoppedError
        meeting = self._open.setdefault((topic, number), _Appointment(topic, number))
        meeting.parts[seat.id] = part
        if len(meeting.parts) < len(topic[1]):
            seat.awaited = meeting
            self._pass_on(seat)
            seat.turn.acquire()
            if self._failure is not None:
                raise _StoppedError
        else:
            del self._open[topic, number]
            self._carry_out(meeting)

    def _carry_out(self, meeting: _Appointment) -> None:
        """Let the last core to come move the data of all: everything is read before a write."""
        parts = {core: instruction for core, (instruction, _) in meeting.parts.items()}
        brought = {core: data for core, (_, data) in meeting.parts.items() if data is not None}
        first = next(iter(parts.values()))
        first.agree(parts)
        if self.on_meeting is not None:
            present = Counter(core.rank for core in parts)
            for rank in [r for r, count in present.items() if count == self.cores]:
                self.on_meeting(rank)
        if brought:
            read = {core: self._blaming(core, data.read) for core, data in brought.items()}
            results = first.exchange(self._ops, parts, read)
            for core, data in brought.items():
                data.write(results[core])
        for core in parts:
            self.seats[core].awaited = None

    def _blaming(self, core: CoreId, read: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """Return what `read` does; name the core and its line in an error of another core."""
        try:
            return read()
        except EmuronError as error:
            if self.seats[core].awaited is not None:
                error.args = (f"{self.name_of(core)} at {self.seats[core].place()}: {error}",)
            raise

    def _pass_on(self, seat: Seat) -> None:
        """Let the next core go on that can: in order, beginning after `seat`."""
        position = self._order.index(seat) + 1
        living = [s for s in self._order[position:] + self._order[:position] if not s.has_ended]
        ready = living if self._failure is not None else [s for s in living if s.awaited is None]
        if ready:
            ready[0].turn.release()
        elif living:
            self._failure = DeadlockError(self._stuck())
            living[0].turn.release()

    def _stuck(self) -> str:
        """Return what each core waits for."""
        told = [self._situation(seat) for seat in self._order]
        return (
            f"No core can go on: {'; '.join(told)}. Let every core that takes part issue the "
            "same meetings in the same order."
        )

    def _situation(self, seat: Seat) -> str:
        name = self.name_of(seat.id)
        meeting = seat.awaited
        if meeting is None:
            return f"{name} has ended"
        (what, _), number = meeting.topic, meeting.number
        pipe = f"pipe {what[1]}, " if isinstance(what, tuple) else ""
        missing = [self.name_of(core) for core in meeting.topic[1] if core not in meeting.parts]
        mnemonic = meeting.parts[seat.id][0].mnemonic
        return (
            f"{name} at {seat.place()} waits in {mnemonic} ({pipe}number {number}) "
            f"for {' and '.join(missing)}"
        )

    def of_rank(self, rank: int) -> list[Seat]:
        """Return the seats of a rank's cores."""
        return [seat for seat in self._order if seat.id.rank == rank]

    def name_of(self, core: CoreId) -> str:
        """Return what errors call a core: nothing if there is only one."""
        rank, number = f"rank {core.rank}", f"core {core.number}"
        if self.ranks > 1:
            return rank if self.cores == 1 else f"{number} of {rank}"
        return number if self.cores > 1 else ""
