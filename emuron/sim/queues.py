"""The queue that each instruction goes to: its engine's, or one of the rings of the DMA."""

from __future__ import annotations

import numpy as np

from emuron.hardware.chip import NeuronCore
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.tensor import Tensor
from emuron.sim.footprints import Column
from emuron.sim.kinds import Kind, Kinds

# A core's rings are divided among these uses, so that a wait in one does not hold up the others.
RING_USES = ("weights", "loads", "stores", "copies")


def ring_use(form: Form, parameters: bool) -> str:
    """Return what a transfer is for; `parameters` says whether all it loads are parameters."""
    from_hbm = any(loads_from_hbm(form, *operand) for operand in form.operand_fields)
    writes = [name for name, kind in form.operand_fields if kind in WRITE_KINDS]
    if any(_in_hbm(form, name) for name in writes):
        return "copies" if from_hbm else "stores"
    if not from_hbm:
        return "copies"
    return "weights" if parameters else "loads"


def loads_from_hbm(form: Form, name: str, kind: str) -> bool:
    """Return whether an operand field is data that comes from HBM."""
    return kind in READ_KINDS and kind != "InOut" and "." not in name and _in_hbm(form, name)


def _in_hbm(form: Form, name: str) -> bool:
    return not getattr(form.example, name).buffer.is_on_chip


class Operands:
    """The operands of all sites as columns: whose each is, its field of all kinds, its tensor."""

    def __init__(self, site: Column, slot: Column, tensor: Column) -> None:
        self.site = site
        self.slot = slot
        self.tensor = tensor


def assign(
    core: NeuronCore, kinds: Kinds, kind: Column, operands: Operands, tensors: list[Tensor]
) -> tuple[Column, list[str]]:
    """Return the queue of each site, given its kind, and the names of the queues.

    The queues of the engines come first, DMA rings last, in the order of their first transfers. The
    transfers of a use take its rings in turn.
    """
    names = [engine.name for engine in core.engines]
    others = {found.queue for found in kinds.all if not found.is_transfer}
    names += sorted(others - set(names))
    of_kind = [-1 if found.is_transfer else names.index(found.queue) for found in kinds.all]
    queue = np.array(of_kind, np.int64)[kind]
    transfers = np.flatnonzero(queue < 0)
    if len(transfers):
        uses = _uses(kinds, kind, operands, tensors)[transfers]
        rings = max(1, core.dma.queues_per_engine // len(RING_USES))
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


def _uses(kinds: Kinds, kind: Column, operands: Operands, tensors: list[Tensor]) -> Column:
    """Return the number of each site's ring use."""
    of_kind = [[_use(found, parameters) for found in kinds.all] for parameters in (False, True)]
    loads = [
        found.is_transfer and loads_from_hbm(found.form, *field)
        for found in kinds.all
        for field in found.form.operand_fields
    ]
    is_parameter = np.array([tensor.role == "parameter" for tensor in tensors], np.bool_)
    other = np.array(loads, np.bool_)[operands.slot] & ~is_parameter[operands.tensor]
    parameters = np.ones(len(kind), np.int64)
    parameters[operands.site[other]] = 0
    return np.array(of_kind, np.int64)[parameters, kind]


def _use(kind: Kind, parameters: bool) -> int:
    return RING_USES.index(ring_use(kind.form, parameters)) if kind.is_transfer else -1
