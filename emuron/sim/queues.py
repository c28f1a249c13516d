"""The queue that each instruction goes to: its engine's, or one of the rings of the DMA."""

from __future__ import annotations

import numpy as np

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Program
from emuron.sim.footprints import Column

# A core's rings are divided among these uses, so that a wait in one does not hold up the others.
RING_USES = ("weights", "loads", "stores", "copies")


def ring_use(form: Form, parameters: bool) -> str:
    """Return what a transfer is for; `parameters` says whether all it loads are parameters."""
    reads = [name for name, kind in form.operand_fields if kind in READ_KINDS - {"InOut"}]
    writes = [name for name, kind in form.operand_fields if kind in WRITE_KINDS]
    from_hbm = [n for n in reads if _in_hbm(form, n)]
    if any(_in_hbm(form, n) for n in writes):
        return "copies" if from_hbm else "stores"
    if not from_hbm:
        return "copies"
    return "weights" if parameters else "loads"


def _in_hbm(form: Form, name: str) -> bool:
    return "." not in name and not getattr(form.example, name).buffer.is_on_chip


def assign(
    program: Program, form: Column, site: Column, slot: Column, tensor: Column
) -> tuple[Column, list[str]]:
    """Return the queue of each instruction, and the names of the queues.

    `form` is that of each instruction; `site`, `slot` and `tensor` say for each operand whose it
    is, which operand field (of all forms, one after the other) and of which tensor. The queues of
    the engines come first, DMA rings last, in the order of their first transfers. The transfers of
    a use take its rings in turn.
    """
    names = [engine.name for engine in program.core.engines]
    moves = [f.cost.dma is not None for f in program.forms]
    others = {f.engine for f in program.forms if f.cost.dma is None}
    names += sorted(others - set(names))
    engines = [
        -1 if dma else names.index(f.engine) for f, dma in zip(program.forms, moves, strict=True)
    ]
    queue = np.array(engines, np.int64)[form]
    transfers = np.flatnonzero(queue < 0)
    if len(transfers):
        uses = _uses(program, form, site, slot, tensor)[transfers]
        rings = max(1, program.core.dma.queues_per_engine // len(RING_USES))
        chosen = np.zeros(len(transfers), np.int64)  # use * rings + number
        for use in range(len(RING_USES)):
            own = np.flatnonzero(uses == use)
            chosen[own] = use * rings + np.arange(len(own)) % rings
        found, where = np.unique(chosen, return_index=True)
        order = found[np.argsort(where)]
        number = np.zeros(len(RING_USES) * rings, np.int64)
        number[order] = len(names) + np.arange(len(order))
        queue[transfers] = number[chosen]
        names += [f"dma-{RING_USES[ring // rings]}{ring % rings}" for ring in order.tolist()]
    return queue, names


def _uses(program: Program, form: Column, site: Column, slot: Column, tensor: Column) -> Column:
    """Return the number of each instruction's ring use."""
    forms = program.forms
    of_form = np.array(
        [
            [RING_USES.index(ring_use(f, p)) if f.cost.dma is not None else 0 for f in forms]
            for p in (False, True)
        ],
        np.int64,
    )
    loads = [
        kind in READ_KINDS - {"InOut"} and f.cost.dma is not None and _in_hbm(f, name)
        for f in forms
        for name, kind in f.operand_fields
    ]
    is_parameter = np.array([t.role == "parameter" for t in program.tensors], np.bool_)
    other = np.array(loads, np.bool_)[slot] & ~is_parameter[tensor]
    parameters = np.ones(len(form), np.int64)
    parameters[site[other]] = 0
    return of_form[parameters, form]
