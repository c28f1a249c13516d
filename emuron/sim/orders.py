"""The order that a kernel asks for beside that of its data (`Program.orders`), as waits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emuron.sim.dependencies import Node, Steps
from emuron.sim.sites import Sites
from emuron.sim.tracking_kernel import WAIT


def ordered(sites: Sites, nodes: list[Node]) -> list[Node]:
    """Return scheduled nodes with the waits that `Program.orders` adds.

    Instructions of one queue are in order anyway. Programs with loops are left as they are: orders
    come from kernels by hand, which have none.
    """
    orders = sites.program.orders
    if not orders or not all(isinstance(node, Steps) for node in nodes):
        return nodes
    positions = _positions(sites.queue)
    return [_with(node, sites, positions, orders) for node in nodes if isinstance(node, Steps)]


def _positions(queues: np.ndarray) -> list[int]:
    """Return the position of each site in its queue."""
    issued: dict[int, int] = {}
    positions = []
    for queue in queues.tolist():
        positions.append(issued.get(queue, 0))
        issued[queue] = positions[-1] + 1
    return positions


def _with(node: Steps, sites: Sites, positions: list[int], orders: Mapping[int, set[int]]) -> Steps:
    run, waits, ends = node.run, [], []
    old = list(node.waits)
    start = 0
    for site, end in zip(range(run.first, run.last), node.ends, strict=True):
        own = old[WAIT * start : WAIT * end]
        needed = dict(zip(own[::WAIT], own[1::WAIT], strict=True))
        for producer in orders.get(site, ()):
            queue = int(sites.queue[producer])
            if queue != sites.queue[site]:
                needed[queue] = max(positions[producer], needed.get(queue, -1))
        for queue, position in sorted(needed.items()):
            waits += [queue, position]
        start = end
        ends.append(len(waits) // WAIT)
    return Steps(run, ends, waits, node.slopes)
