"""How the values that operators write lie over their bases, on chip or in HBM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from emuron.compiler.graph import Node
from emuron.compiler.kernels import folding
from emuron.compiler.kernels.context import Placed
from emuron.compiler.kernels.images import by_channel, channel_rows, channel_view
from emuron.compiler.kernels.view import LogicalView
from emuron.compiler.passes.parallel_plan import is_elementwise

_BY_HEADS = frozenset({"attention", "rope"})
_FOLDED = frozenset({"add", "all_reduce", "rms_norm"})
"""Operators whose kernels write folded values: those of a decoder's stream of features."""
_BY_CHANNEL = frozenset({"conv", "reduce_window", "resize", "group_norm", "batch_norm"})


@dataclass(frozen=True, slots=True)
class Layout:
    """A base of `rows` of `columns` elements, and the value's view of it."""

    rows: int
    columns: int
    view: LogicalView


def layout_for(nodes: Sequence[Node], shape: tuple[int, ...], operands: Sequence[Placed]) -> Layout:
    """Return how an output is to lie that a node, and those that join it, write.

    What attention and rope write, [B, H, S, D], lies as [B, S, H, D], as linear layers read it;
    what convolutions and their like write has its channels as rows. Element-wise operators follow
    an operand of that kind. Few wide rows that sums and norms write are folded.
    """
    first, last = nodes[0], nodes[-1]
    if first.op.name in _BY_HEADS and len(shape) == 4:
        batch, heads, length, size = shape
        base = LogicalView.dense((batch, length, heads, size))
        return Layout(batch * length, heads * size, base.permute((0, 2, 1, 3)))
    follows = is_elementwise(first) and any(by_channel(o) and o.shape == shape for o in operands)
    if len(shape) >= 3 and (first.op.name in _BY_CHANNEL or follows):
        return Layout(shape[1], prod(shape) // max(1, shape[1]), channel_view(shape))
    view = LogicalView.dense(shape)
    if last.op.name in _FOLDED and folding.folds(*folding.matrix_of(shape)):
        return Layout(prod(shape) // folding.WIDTH, folding.WIDTH, view)
    return Layout(prod(shape[:-1]), shape[-1] if shape else 1, view)


def seen_alike(node: Node, values: Sequence[Placed]) -> Sequence[Placed]:
    """Return the operands and results of an element-wise node over rows that all of them have.

    Where one has its channels as rows, all are seen so: order does not matter to such a node.
    """
    if is_elementwise(node) and any(by_channel(v) for v in values):
        return [channel_rows(v) for v in values]
    return values
