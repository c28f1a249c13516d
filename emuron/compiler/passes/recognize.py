"""What every front end does to the graph that it has translated, operator by operator."""

from __future__ import annotations

from emuron.compiler.graph import Graph
from emuron.compiler.passes.clean import drop_dead_nodes, share_equal_nodes
from emuron.compiler.passes.expand import expand_composites
from emuron.compiler.passes.fold_weights import fold_weights
from emuron.compiler.passes.match_composites import match_composites


def recognize(graph: Graph) -> Graph:
    """Return the graph with composites whole and weights laid out as they are read."""
    parts = share_equal_nodes(drop_dead_nodes(expand_composites(graph)))
    return fold_weights(drop_dead_nodes(match_composites(parts)))
