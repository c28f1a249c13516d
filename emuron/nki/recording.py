"""Recording a kernel: arguments in, a Program for each core of each rank and outputs out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from emuron.errors import EmuronError, LostValueError, RaceError, UsageError
from emuron.hardware.chip import Chip
from emuron.isa.program import Program
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.nki.arguments import Arguments
from emuron.nki.cores import Team
from emuron.nki.race_checks import duplicate_reporter, reporter
from emuron.nki.recorder import Recorder
from emuron.nki.scheduling import schedule
from emuron.nki.source_places import name_line
from emuron.nki.subset import enforce
from emuron.nki.target import check_environment, target_chip
from emuron.nki.unwritten_memory import gives_poison
from emuron.nki.wrong_calls import wrong_call
from emuron.numerics.backend import get_backend
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine, Storage
from emuron.sim.races import RaceWatch

Inputs = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recorded kernel: a program for each core, and what core 0 returned.

    `outputs` has arrays for the tensors in `returned`; it is None without data.
    """

    outputs: Any
    programs: tuple[Program, ...]
    chip: Chip
    returned: Any


_observers: ContextVar[tuple[Callable[[Recording], None], ...]] = ContextVar(
    "observers", default=()
)


def observe_launches(observer: Callable[[Recording], None]) -> None:
    """Let `observer` be called after each launch in this context, for each rank."""
    _observers.set((*_observers.get(), observer))


def record_kernel(
    kernel: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    target: str | Chip | None,
    execute: bool,
    backend: str = "numpy",
) -> Recording:
    """Record a kernel as `run_kernel` does, without placing and timing it."""
    return _Launch(kernel, [(args, kwargs)], target, backend if execute else None).run()[0]


def record_ranks(
    kernel: Callable[..., Any],
    inputs: Sequence[Inputs],
    target: str | Chip | None,
    execute: bool,
    backend: str = "numpy",
) -> list[Recording]:
    """Record a kernel as `run_ranks` does, without placing and timing it."""
    if not inputs:
        raise UsageError("There are no inputs; give those of each rank, at least of one.")
    calls = [((), given) if isinstance(given, Mapping) else (given, {}) for given in inputs]
    return _Launch(kernel, calls, target, backend if execute else None).run()


class _Launch:
    """One run of a kernel: on each core a recorder and, with data (a `backend`), a machine."""

    def __init__(
        self,
        kernel: Callable[..., Any],
        calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
        target: str | Chip | None,
        backend: str | None,
    ) -> None:
        enforce(kernel, *calls[0])
        self.kernel = kernel
        self.name = getattr(kernel, "__name__", "kernel")
        self.chip = target_chip(target or getattr(kernel, "target", None))
        self.grid: int | None = getattr(kernel, "grid", None)
        check_environment(self.name, self.grid)
        self.backend = get_backend(backend) if backend is not None else None
        cores = self.grid or 1
        if cores not in self.chip.lnc_sizes:
            raise UsageError(
                f"{self.name}[{cores}] asks for {cores} physical cores; the logical cores of "
                f"{self.chip.name} have {' or '.join(map(str, self.chip.lnc_sizes))}."
            )
        self.team = Team(cores, len(calls), self.backend)
        self.ranks = [self._rank(*call, rank) for rank, call in enumerate(calls)]
        self.team.on_meeting = self._met

    def _rank(self, args: Sequence[Any], kwargs: Mapping[str, Any], rank: int) -> _Rank:
        shared: dict[Tensor, Storage] = {}
        core, seats = self.chip.core, self.team.of_rank(rank)
        recorders = [Recorder(core, self.name, None, self.grid, seat) for seat in seats]
        machines = []
        for seat, recorder in zip(seats, recorders, strict=True):
            seat.place = recorder.place
            if self.backend is not None:
                made = Machine(
                    core,
                    self.backend,
                    shared=shared,
                    meet=seat.meet,
                    poison=gives_poison(),
                    on_loss=reporter(LostValueError),
                )
                made.on_duplicate = duplicate_reporter(recorder.place)
                recorder.executor = FunctionalSimulator(made)
                machines.append(made)
        watch = self._watch(recorders, machines)
        alone = self.team.cores == 1
        region = MemoryRegion.private_hbm if alone else MemoryRegion.shared_hbm
        arguments = Arguments(recorders[0], machines[0] if machines else None, region)
        for recorder in recorders:
            recorder.given = arguments.given
        return _Rank(args, kwargs, recorders, arguments, watch)

    def _watch(self, recorders: list[Recorder], machines: list[Machine]) -> RaceWatch | None:
        """Return what finds races between two cores; None if none are looked for."""
        report = reporter(RaceError)
        if self.team.cores < 2 or report is None:
            return None
        contents = machines[0].stored if machines else None
        watch = RaceWatch([recorder.program for recorder in recorders], report, contents)
        for number, machine in enumerate(machines):
            recorders[number].executor = watch.executor(number, machine)
        return watch

    def _met(self, rank: int) -> None:
        """Check for races when all cores of a rank meet."""
        watch = self.ranks[rank].watch
        if watch is not None:
            watch.meet()

    def run(self) -> list[Recording]:
        """Run the kernel on all cores; return a recording for each rank."""
        names = _parameter_names(self.kernel)
        functions = [
            partial(
                self._on_core,
                recorder,
                rank.arguments.positional(rank.args, _completed(names, len(rank.args))),
                rank.arguments.named(rank.kwargs),
            )
            for rank in self.ranks
            for recorder in rank.recorders
        ]
        returned = self.team.run(functions)
        for rank in self.ranks:
            if rank.watch is not None:
                rank.watch.finish()
        first_of_each = returned[:: self.team.cores]
        made = [self._recording(*pair) for pair in zip(self.ranks, first_of_each, strict=True)]
        for observer in _observers.get():
            for recording in made:
                observer(recording)
        return made

    def _recording(self, rank: _Rank, returned: Any) -> Recording:
        recorded = [recorder.program for recorder in rank.recorders]
        schedule(recorded, getattr(self.kernel, "schedule", ()))
        programs = tuple(program.freeze() for program in recorded)
        outputs = rank.arguments.outputs(returned)
        if self.backend is None:
            return Recording(None, programs, self.chip, returned)
        rank.arguments.write_back(returned)
        return Recording(outputs, programs, self.chip, returned)

    def _on_core(self, recorder: Recorder, args: list[Any], kwargs: dict[str, Any]) -> Any:
        function = getattr(self.kernel, "func", self.kernel)
        with recorder.active():
            try:
                returned = function(*args, **kwargs)
            except EmuronError as error:
                name_line(error, recorder)
                raise
            except TypeError as error:
                wrong = wrong_call(error)
                if wrong is None:
                    raise
                name_line(wrong.with_traceback(error.__traceback__), recorder)
                raise wrong from error
        recorder.finish()
        return returned


@dataclass(slots=True, eq=False)
class _Rank:
    """One rank of a launch: what it is given, and the recorders of its cores.

    `watch` finds races between them, None if there is one core or none are looked for.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    recorders: list[Recorder]
    arguments: Arguments
    watch: RaceWatch | None


def _parameter_names(kernel: Callable[..., Any]) -> list[str]:
    """Return the names of the positional parameters, [] where there is no telling."""
    try:
        parameters = inspect.signature(kernel).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in positional]


def _completed(names: list[str], count: int) -> list[str]:
    """Return the names of so many positional arguments."""
    return [*names, *(f"args[{i}]" for i in range(len(names), count))][:count]
