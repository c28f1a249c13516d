"""Finds runs of equal layers, so that a model's layers are written once, in a loop."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import Block, Graph, Value, split_blocks


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Consecutive blocks of one hash that one loop body can stand for (or a single block).

    `carried` maps an input position to the output position of the block before; `invariant` holds
    the input positions that are the same value in every block; all other inputs are parameters or
    graph inputs of which each block has its own.
    """

    blocks: tuple[Block, ...]
    carried: dict[int, int]
    invariant: frozenset[int]

    @property
    def count(self) -> int:
        """Number of times the body runs."""
        return len(self.blocks)


def find_repeats(graph: Graph) -> tuple[Segment, ...]:
    """Cut the graph into segments; layers that are wired regularly form one segment."""
    segments: list[Segment] = []
    blocks = list(split_blocks(graph))
    while blocks:
        run = 1
        while run < len(blocks) and blocks[run].hash == blocks[0].hash:
            run += 1
        segment = _segment(graph, tuple(blocks[:run])) if run > 1 else None
        if segment is None:
            segment = Segment((blocks[0],), {}, frozenset())
        segments.append(segment)
        del blocks[: segment.count]
    return tuple(segments)


def _segment(graph: Graph, blocks: tuple[Block, ...]) -> Segment | None:
    carried: dict[int, int] = {}
    invariant: set[int] = set()
    own = {p.value for p in graph.parameters} | set(graph.inputs)
    for position in range(len(blocks[0].inputs)):
        values = [block.inputs[position] for block in blocks]
        if all(v is values[0] for v in values):
            invariant.add(position)
        elif (source := _source(blocks, values)) is not None:
            carried[position] = source
        elif not (all(v in own for v in values) and len(set(values)) == len(values)):
            return None
    outputs = set(graph.outputs)
    for position, value in enumerate(blocks[0].outputs):
        apart = position not in carried.values()
        if apart and not all(block.outputs[position] in outputs for block in blocks):
            return None
        if not apart and any(block.outputs[position] in outputs for block in blocks[:-1]):
            return None
        del value
    return Segment(blocks, carried, frozenset(invariant))


def _source(blocks: tuple[Block, ...], values: list[Value]) -> int | None:
    """Return the output position of the block before that every value but the first comes from."""
    before = blocks[0].outputs
    if values[1] not in before:
        return None
    position = before.index(values[1])
    follows = all(values[i] is blocks[i - 1].outputs[position] for i in range(1, len(blocks)))
    return position if follows else None
