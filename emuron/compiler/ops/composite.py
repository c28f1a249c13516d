"""Operators that stand for others: defined by their decomposition alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from emuron.compiler.graph import Array, Graph, Op, TensorType, Value
from emuron.compiler.ops.body import run_graph
from emuron.compiler.ops.context import EvalContext

if TYPE_CHECKING:
    from emuron.compiler.ops.builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class Composite(Op):
    """An operator without a kernel of its own.

    `evaluate` runs the decomposition with the roundings of its parts, and the pass
    `expand_composites` puts the parts in its place before lowering: the two cannot differ.
    """

    moves_storage: ClassVar[bool] = True

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return the outputs, built from other operators; raises UsageError for wrong operands."""
        raise NotImplementedError(f"{type(self).__name__}.decompose")

    def expandable(self) -> bool:
        """Whether the pass may put the parts in place; else the host evaluates the whole."""
        return True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the types of the decomposition's outputs."""
        return tuple(v.type for v in decomposition(self, types).outputs)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the decomposition's outputs, stored."""
        return run_graph(ev, decomposition(self, ev.types), arrays)


@lru_cache(maxsize=256)
def decomposition(op: Composite, types: tuple[TensorType, ...]) -> Graph:
    """Return the graph that a composite stands for on operands of these types."""
    # The builder names every operator, composites too: it cannot be imported before them.
    from emuron.compiler.ops.builder import GraphBuilder

    builder = GraphBuilder(op.name)
    operands = [builder.input(f"x{number}", type) for number, type in enumerate(types)]
    for number, value in enumerate(op.decompose(builder, *operands)):
        builder.output(f"y{number}", value)
    return builder.finish()
