"""What the passes did: derived from the graphs and the program, so that no pass need tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod

from emuron.compiler.graph import Graph
from emuron.isa.instruction import Form
from emuron.isa.program import Program
from emuron.isa.tensor import AccessPattern
from emuron.sim.memory import Placement
from emuron.sim.timing import TimingResult
from emuron.trace.pass_record import PassRecord

_TRANSFERS: Mapping[str, str] = {
    "parameter": "weights read",
    "input": "inputs read",
    "output": "outputs written",
    "temporary": "spilled values moved",
}
"""What a transfer is called by the role of its tensor in HBM."""

SCHEDULE = "choose_schedule"
"""The pass that keeps one program of those that were tried."""


def graph_record(name: str, before: Graph, after: Graph) -> PassRecord:
    """Return the nodes before and after a pass, and the operators that it made or removed.

    Where it stored weights in 8 bits, how many, and the bytes of all parameters before and after.
    """
    figures = {"nodes before": len(before.nodes), "nodes after": len(after.nodes)}
    old, new = (Counter(node.op.name for node in g.nodes) for g in (before, after))
    figures.update({f"{op} made": count for op, count in sorted((new - old).items())})
    figures.update({f"{op} removed": count for op, count in sorted((old - new).items())})
    kinds, found = (Counter(p.type.dtype for p in g.parameters) for g in (before, after))
    narrow = {f"weights stored as {t}": n for t, n in (found - kinds).items() if t.itemsize == 1}
    if narrow:
        figures |= narrow
        figures["parameters before, bytes"] = before.parameter_bytes
        figures["parameters after, bytes"] = after.parameter_bytes
    return PassRecord(name, figures)


def program_record(program: Program) -> PassRecord:
    """Return the instructions of a program, its transposes, casts and traffic by kind."""
    figures: Counter[str] = Counter({"instructions": len(program)})
    for block, indices in program.leaves():
        times = prod(index.trip for index in indices)
        for number, rows in Counter(block.form).items():
            for name, count in _of_form(program.forms[number]):
                figures[name] += times * rows * count
        for row, number in enumerate(block.form):
            if program.forms[number].cost.dma is not None:
                for name, count in _of_transfer(program.view(block, row)):
                    figures[name] += times * count
    return PassRecord("write_program", figures)


def schedule_record(
    timing: TimingResult, placement: Placement, tried: int, share: float
) -> PassRecord:
    """Return how the kept program came about: candidates, memory held, engines' busy shares."""
    figures: dict[str, float] = {
        "programs tried": tried,
        "SBUF offered to values, share": share,
        "SBUF held in a partition, bytes": placement.sbuf_peak_bytes,
        "PSUM held in a partition, bytes": placement.psum_peak_bytes,
    }
    total = max(1, timing.total_ps)
    busy = {f"{name} busy, share": ps / total for name, ps in timing.busy_ps.items()}
    return PassRecord(SCHEDULE, figures | busy)


def _of_form(form: Form) -> Iterator[tuple[str, int]]:
    """Yield the figures that each instruction of a form adds to."""
    transposes = "transpose" in form.mnemonic
    if not transposes and form.mnemonic != "tensor_copy":
        return
    written, read = (getattr(form.example, name) for name, _ in form.operand_fields[:2])
    if transposes:
        yield "transposes", 1
        yield "transposed, bytes", _bytes(written)
    elif written.dtype != read.dtype:
        yield "casts of a value in SBUF", 1


def _of_transfer(views: list[AccessPattern]) -> Iterator[tuple[str, int]]:
    """Yield the traffic of one transfer by the role of its tensor in HBM."""
    for view in views:
        if not view.tensor.buffer.is_on_chip:
            yield f"{_TRANSFERS.get(view.tensor.role, 'other traffic')}, bytes", _bytes(view)


def _bytes(view: AccessPattern) -> int:
    return prod(view.shape) * view.dtype.itemsize
