"""Decides which values stay in SBUF between kernels and in which dtype they are stored."""

from __future__ import annotations

from math import prod

from emuron.compiler.graph import Graph, Node, Value
from emuron.compiler.ops import Autocast
from emuron.numerics.dtypes import DType

VIEWS = frozenset({"reshape", "permute", "slice", "broadcast"})
"""Operators that move nothing: their result is another view of their operand."""


class Residency:
    """A budget of SBUF bytes in each partition, spent on values while they live."""

    def __init__(self, graph: Graph, cast: Autocast, budget_bytes: int) -> None:
        self.graph = graph
        self.cast = cast
        self.left_bytes = budget_bytes
        self._users: dict[Value, list[tuple[Node, int]]] = {}
        for node in graph.nodes:
            for index, value in enumerate(node.inputs):
                self._users.setdefault(value, []).append((node, index))
        self._outputs = set(graph.outputs)
        self._order = {node: i for i, node in enumerate(graph.nodes)}

    def users(self, value: Value) -> list[tuple[Node, int]]:
        """Return the nodes that read a value, with the operand's index."""
        return self._users.get(value, [])

    def is_output(self, value: Value) -> bool:
        """Tell whether a value leaves the graph."""
        return value in self._outputs

    def stored_dtype(self, value: Value) -> DType:
        """Return the dtype a value is stored in.

        A value that only contractions read is stored as they read it: rounding it at the write is
        the rounding that each of them would do.
        """
        written = self.cast.written(value.type.dtype)
        operand = self.cast.operand(written)
        return operand if operand != written and self._only_contracted(value) else written

    def _only_contracted(self, value: Value) -> bool:
        users = self.users(value)
        return (
            bool(users)
            and value not in self._outputs
            and all(
                self._only_contracted(node.outputs[0])
                if node.op.name in VIEWS
                else index in node.op.contracts
                for node, index in users
            )
        )

    def last_use(self, value: Value) -> int:
        """Return the position of the last node that reads a value, through views too."""
        last = len(self.graph.nodes) if value in self._outputs else -1
        for node, _ in self.users(value):
            last = max(last, self._order[node])
            if node.op.name in VIEWS:
                last = max(last, self.last_use(node.outputs[0]))
        return last

    def bytes_of(self, shape: tuple[int, ...], dtype: DType) -> int:
        """Return the bytes in each partition of a value in the rows layout."""
        rows = prod(shape[:-1])
        return -(-rows // 128) * (shape[-1] if shape else 1) * dtype.itemsize

    def take(self, needed_bytes: int) -> bool:
        """Spend bytes of the budget if they are left."""
        if needed_bytes > self.left_bytes:
            return False
        self.left_bytes -= needed_bytes
        return True

    def give_back(self, spent_bytes: int) -> None:
        """Return bytes to the budget."""
        self.left_bytes += spent_bytes
