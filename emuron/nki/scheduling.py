"""What a kernel says about the order of its instructions (`nki_api.md` §12).

Instructions run in program order on each engine. What is said here adds waits between engines, in
the time that a program takes; the values are those of program order anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from emuron.errors import UnknownNameError, UsageError
from emuron.isa.program import Program
from emuron.nki.earlier_forms import use
from emuron.nki.recorder import recorder

Edge = tuple[str, str | Sequence[str]]

_ordered: ContextVar[bool] = ContextVar("ordered", default=False)


class NkiInstruction:
    """The handle of an issued instruction: its row in the program's text."""

    __slots__ = ("row",)

    def __init__(self, row: int) -> None:
        self.row = row

    def depends_on(self, *producers: NkiInstruction) -> NkiInstruction:
        """Let the instruction begin after others, issued earlier, have ended; return self."""
        use("depends_on")
        for producer in producers:
            if not isinstance(producer, NkiInstruction):
                raise UsageError(
                    f"depends_on: {producer!r} is no instruction. Give what an nki.isa function "
                    "returned."
                )
            recorder().program.order(self.row, producer.row)
        return self


def label(name: str, row: int) -> None:
    """Note the name that a kernel gave an instruction (`name=`); raise UsageError for no string."""
    if not isinstance(name, str):
        raise UsageError(f"The name={name!r} of an instruction must be a string.")
    recorder().program.labels.setdefault(name, []).append(row)


def issued(row: int, name: str | None) -> NkiInstruction:
    """Return the handle of an instruction, noting its name if it has one."""
    if name is not None:
        label(name, row)
    return NkiInstruction(row)


def schedule(programs: Sequence[Program], edges: Iterable[Edge]) -> None:
    """Add the edges (consumer, producer or producers) between named instructions to programs.

    A name may stand for several instructions: each consumer waits for the producers before it.
    Raises UnknownNameError for a name that no program has, UsageError if no producer comes before.
    """
    known = {name for program in programs for name in program.labels}
    for consumer, given in edges:
        producers = [given] if isinstance(given, str) else list(given)
        for name in (consumer, *producers):
            if name not in known:
                raise UnknownNameError("instruction name in the schedule", name, known)
        for program in programs:
            for producer in producers:
                _order(program, consumer, producer)


def _order(program: Program, consumer: str, producer: str) -> None:
    consumers = program.labels.get(consumer, [])
    producers = program.labels.get(producer, [])
    pairs = [(c, p) for c in consumers for p in producers if p < c]
    if consumers and producers and not pairs:
        raise UsageError(
            f"The schedule lets '{consumer}' wait for '{producer}', which the kernel issues later. "
            f"Programs keep the order they are written in: issue '{producer}' earlier."
        )
    for row, earlier in pairs:
        program.order(row, earlier)


@contextmanager
def no_reorder() -> Iterator[None]:
    """Let each instruction issued inside wait for the one before it.

    Dynamic loops are refused inside, as by the compiler.
    """
    active, token = recorder(), _ordered.set(True)
    first = active.rows
    try:
        yield
    finally:
        _ordered.reset(token)
        for row in range(first + 1, active.rows):
            active.program.order(row, row - 1)


def refuse_ordered(what: str) -> None:
    """Raise UsageError inside of `no_reorder`."""
    if _ordered.get():
        raise UsageError(
            f"{what} inside of nl.no_reorder() is not supported. Put no_reorder into the loop's "
            "body instead."
        )
