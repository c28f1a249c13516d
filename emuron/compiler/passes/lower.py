"""Lowers a graph to a Program: each op writes its kernel, layers that repeat become a loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from emuron.compiler.graph import Block, Graph, Node, Value
from emuron.compiler.kernels import elementwise, movement
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.decode_attention import FEW_QUERIES
from emuron.compiler.kernels.images import by_channel
from emuron.compiler.ops import Autocast
from emuron.compiler.passes.bindings import Binding, Bindings
from emuron.compiler.passes.layouts import Layout, layout_for, seen_alike
from emuron.compiler.passes.repeats import Segment, find_repeats
from emuron.compiler.passes.residency import VIEWS, Residency
from emuron.errors import EmuronError, UnsupportedOpError
from emuron.isa.program import Program
from emuron.isa.tensor import Tensor
from emuron.nki.recorder import Recorder
from emuron.trace.pass_record import PassRecord

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

_TAKE_SUMS = frozenset({"linear", "conv"})
_TAKE_ACTIVATIONS = _TAKE_SUMS | {"group_norm", "batch_norm"}
"""Operators whose kernels let a sum, or a function, join their last write."""


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A program with what lies in its HBM: inputs, outputs, parameters and constants.

    `refused` maps the nodes that have no kernel to why: where there are any, the program is not
    that of the graph.
    """

    program: Program
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    parameters: tuple[Binding, ...]
    constants: dict[Tensor, np.ndarray]
    refused: dict[Node, str]
    record: PassRecord


def lower(
    graph: Graph, core: NeuronCore, cast: Autocast, budget_bytes: int, *, shared: bool = False
) -> Lowered:
    """Return the program of a graph for one core, with values kept in SBUF within the budget.

    With `shared` it stands for several graphs, so that its groups name no layer by number.
    """
    return _Lowering(graph, core, cast, budget_bytes, shared).run()


class _Lowering:
    def __init__(
        self, graph: Graph, core: NeuronCore, cast: Autocast, budget_bytes: int, shared: bool
    ) -> None:
        self.graph = graph
        self.shared = shared
        self.cast = cast
        self.recorder = Recorder(core, graph.name)
        self.k = KernelContext(self.recorder, cast.operand)
        self.residency = Residency(graph, cast, budget_bytes)
        self.values: dict[Value, Placed] = {}
        self.spent: dict[Value, int] = {}
        self.bound = Bindings(graph, cast, self.k)
        self.targets: dict[Value, Placed] = {}
        self.refused: dict[Node, str] = {}
        self.unwritten: set[Node] = set()  # of the block being written
        self.counts: Counter[str] = Counter()
        self.turns = 1  # of the graph's layers that the body being written stands for
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.producer = {v: node for node in graph.nodes for v in node.outputs}
        self.aliases = {graph.outputs[o]: graph.inputs[i] for o, i in graph.aliases.items()}

    def run(self) -> Lowered:
        with self.recorder.active():
            for segment in find_repeats(self.graph):
                if segment.count == 1:
                    self._block(segment.blocks[0], star=self.shared)
                else:
                    self._repeat(segment)
            for value in dict.fromkeys(self.graph.outputs):
                self._output(value)
        return Lowered(
            self.recorder.program.freeze(),
            tuple(dict.fromkeys(self.bound.inputs.values())),
            tuple(dict.fromkeys(self.bound.outputs[v] for v in self.graph.outputs)),
            self.bound.parameters,
            dict(self.k.constants),
            self.refused,
            PassRecord("lower", self.counts),
        )

    # Layers

    def _block(self, block: Block, star: bool = False) -> None:
        self.unwritten = set(block.nodes)
        for node in block.nodes:
            if node in self.unwritten:
                scope = _starred(node.scope) if star else node.scope
                with self.recorder.group(scope or self.graph.name):
                    self._node(node)
            self._free(self.position[node])

    def _repeat(self, segment: Segment) -> None:
        """Write the body of equal layers once, with two buffers for what passes between them."""
        first = segment.blocks[0]
        for position, value in enumerate(first.inputs):
            if position not in segment.carried and position not in segment.invariant:
                self.bound.stacks[value] = tuple(b.inputs[position] for b in segment.blocks)
        own = [q for q in range(len(first.outputs)) if q not in segment.carried.values()]
        for q in own:
            self.bound.stacks[first.outputs[q]] = tuple(b.outputs[q] for b in segment.blocks)
        entered = {
            q: self._entered(first.inputs[p], first.outputs[q]) for p, q in segment.carried.items()
        }
        kept = [self.spent.pop(first.inputs[p], 0) for p in segment.carried]
        buffers = {
            q: (entered[q], self._twin(entered[q], first, first.inputs[p], first.outputs[q]))
            for p, q in segment.carried.items()
        }
        left = self.residency.left_bytes
        before = dict(self.values)
        self.counts["layers written once"] += 1
        self.counts["layers run by loops"] += segment.count
        for turn, index in enumerate(self.k.recorded_loop(segment.count, unroll=2, name="layer")):
            self.bound.index = index
            self.turns = segment.count if turn == 0 else 0
            self.k.forget()
            self.residency.left_bytes = left
            self.values = dict(before)
            for p, q in segment.carried.items():
                self.values[first.inputs[p]] = _fresh(buffers[q][turn % 2])
            self.targets = {first.outputs[q]: buffers[q][(turn + 1) % 2] for q in buffers}
            self._block(first, star=True)
        self.bound.index, self.targets, self.turns = None, {}, 1
        self.k.forget()
        self.residency.left_bytes = left
        self.values = before
        last = segment.blocks[-1]
        for (q, pair), spent in zip(buffers.items(), kept, strict=True):
            self.values[last.outputs[q]] = _fresh(pair[segment.count % 2])
            self.spent[last.outputs[q]] = spent
        self._free(self.position[last.nodes[-1]])

    def _entered(self, value: Value, like: Value) -> Placed:
        """Return the buffer in which the first layer finds what layers hand on."""
        placed = self.values.get(value) or self.bound.given(value)
        layout = layout_for([self.producer[like]], like.shape, [placed])
        if (
            (placed.view.is_dense or by_channel(placed))
            and placed.shape == like.shape
            and placed.dtype == self.residency.stored_dtype(like)
            and (placed.rows, placed.columns) in ((0, 0), (layout.rows, layout.columns))
            and not self.bound.is_given(value)
        ):
            return placed
        made = self._new(like, "layer_in", layout)
        movement.move(self.k, placed, made)
        return made

    def _twin(self, placed: Placed, block: Block, entering: Value, leaving: Value) -> Placed:
        """Return the buffer in which a layer leaves what the next one enters with.

        It is the same one if the layer has read what entered before it writes what leaves.
        """
        reads = [i for i, node in enumerate(block.nodes) if self._reads(node, entering)]
        writes = next(i for i, node in enumerate(block.nodes) if leaving in node.outputs)
        if max(reads, default=-1) < writes:
            return placed
        size = self.residency.bytes_of((placed.rows, placed.columns), placed.dtype)
        if placed.on_chip and self.residency.take(size):
            made = self.k.on_chip(placed.rows, placed.columns, placed.dtype, "layer_out")
            return made.seen_as(placed.view)
        return self.k.hbm(leaving.shape, placed.dtype, "layer_out", "temporary")

    def _reads(self, node: Node, value: Value) -> bool:
        """Tell whether a node reads a value, through views too."""
        views = [n.outputs[0] for n, _ in self.residency.users(value) if n.op.name in VIEWS]
        return value in node.inputs or any(self._reads(node, view) for view in views)

    # Nodes

    def _node(self, node: Node) -> None:
        self.counts["operators"] += self.turns
        # What a layer hands on or gives away is written, to a place of its own.
        value = node.outputs[0]
        given = self.bound.index is not None and self.residency.is_output(value)
        leaves = given or value in self.targets
        if node.op.name in VIEWS and not leaves and self._view(node):
            self.counts["views that move nothing"] += self.turns
            return
        joined = self._epilogue(node)
        self.unwritten.difference_update(joined)
        for other in joined:
            self.counts["operators"] += self.turns
            self.counts[f"{node.op.name} with {other.op.name} in its eviction"] += self.turns
        last = joined[-1] if joined else node
        inputs = tuple(self._operand(node, i) for i in range(len(node.inputs)))
        if getattr(node.op, "alu", None) is None:  # the others take a number as it is
            inputs = tuple(self.k.materialize(placed) for placed in inputs)
        epilogue = self._joined(node, joined)
        placed = tuple(self._target((node, *joined), v) for v in last.outputs)
        seen = seen_alike(node, (*inputs, *placed))
        try:
            node.op.lower(
                self.k, tuple(seen[: len(inputs)]), tuple(seen[len(inputs) :]), **epilogue
            )
        except UnsupportedOpError as error:
            self.refused[node] = str(error)
        except EmuronError as error:
            error.add_note(f"while lowering {node!r} ({node.source or node.scope})")
            raise
        self.values.update(zip(last.outputs, placed, strict=True))
        for value, made in zip(last.outputs, placed, strict=True):
            if made.immediate is not None and self.residency.is_output(value):
                elementwise.fill(self.k, made, made.immediate)

    def _epilogue(self, node: Node) -> tuple[Node, ...]:
        """Return the nodes that may join the write of a node: a sum, then a function.

        Each is the only reader of the one before it; of the same block, so that it is written with
        it; and no value between them is rounded in a way that the kernel would not do.
        """
        name = node.op.name
        if name not in _TAKE_ACTIVATIONS:
            return ()
        exact = self.cast.written(node.outputs[0].type.dtype) == "float32"
        joined: list[Node] = []
        reader = self._sole_reader(node)
        takes_sum = name in _TAKE_SUMS and exact
        if reader is not None and takes_sum and self._sums(reader, node):
            joined.append(reader)
            reader = self._sole_reader(reader)
        activation = None if reader is None else getattr(reader.op, "activation", None)
        # Rounding first does not change what relu gives.
        if reader is not None and activation is not None and (exact or activation == "relu"):
            joined.append(reader)
        return tuple(joined)

    def _sole_reader(self, node: Node) -> Node | None:
        users = self.residency.users(node.outputs[0])
        if len(users) != 1 or self.residency.is_output(node.outputs[0]):
            return None
        return users[0][0] if users[0][0] in self.unwritten else None

    def _sums(self, reader: Node, node: Node) -> bool:
        """Tell whether a node is a sum whose other operand exists already."""
        others = [v for v in reader.inputs if v is not node.outputs[0]]
        return reader.op.name == "add" and len(others) == 1 and others[0] in self.values

    def _joined(self, node: Node, joined: tuple[Node, ...]) -> dict[str, Any]:
        """Return the arguments that hand joined nodes to a kernel."""
        found: dict[str, Any] = {}
        for reader in joined:
            if reader.op.name == "add":
                other = next(v for v in reader.inputs if v is not node.outputs[0])
                found["added"] = self.k.materialize(self.values[other])
            else:
                found["epilogue"] = reader.op
        return found

    def _view(self, node: Node) -> bool:
        source = self._operand(node, 0)
        view = node.op.view(source.view)  # type: ignore[attr-defined]
        if view is None:
            return False
        self.values[node.outputs[0]] = source.seen_as(view)
        return True

    def _operand(self, node: Node, index: int) -> Placed:
        value = node.inputs[index]
        found = self.values.get(value)
        if found is not None:
            return found
        packing = None
        dtype = self.cast.written(value.type.dtype)
        if self.bound.is_parameter(value) and index in node.op.contracts:
            dtype = self.cast.operand(dtype)
            packing = node.op.packing(index, tuple(v.type for v in node.inputs), dtype)
        return self.bound.given(value, packing, dtype)

    # Where outputs go

    def _target(self, nodes: Sequence[Node], value: Value) -> Placed:
        node, last = nodes[0], nodes[-1]
        if value in self.targets:
            return _fresh(self.targets[value])
        alias = self.aliases.get(value)
        if alias is not None and self._may_overwrite(node, alias):
            placed = self._operand(node, 0)
            self.bound.take_over(value, alias)
            return placed
        if self.residency.is_output(value):
            return self.bound.output(value)
        operands = [self.values[v] for v in node.inputs if v in self.values]
        layout = layout_for(nodes, value.shape, operands)
        return self._new(value, value.name, layout, _tiles_start_legally(last, value.shape))

    def _may_overwrite(self, node: Node, value: Value) -> bool:
        """Tell whether a node may write to its first operand: no later one reads it."""
        last = self.residency.last_use(value) <= self.position[node]
        return node.op.name in IN_PLACE and node.inputs[0] is value and last

    def _new(self, value: Value, name: str, layout: Layout, reachable: bool = True) -> Placed:
        """Return a new value in SBUF if the budget allows and it is `reachable`, else in HBM."""
        dtype = self.residency.stored_dtype(value)
        needed = self.residency.bytes_of((layout.rows, layout.columns), dtype)
        stays = reachable and self.residency.take(needed)
        where = "SBUF" if stays else "HBM"
        size_bytes = layout.rows * layout.columns * dtype.itemsize
        self.counts[f"values kept in {where}"] += self.turns
        self.counts[f"values kept in {where}, bytes"] += self.turns * size_bytes
        if dtype != self.cast.written(value.type.dtype):
            self.counts["values stored as products read them"] += self.turns
        if stays:
            self.spent[value] = needed
            made = self.k.on_chip(layout.rows, layout.columns, dtype, name)
        else:
            made = self.k.hbm((layout.rows, layout.columns), dtype, name, "temporary")
        return Placed(made.storage, layout.view, layout.columns, layout.rows)

    def _output(self, value: Value) -> None:
        if value in self.bound.outputs:
            return
        placed = self.values.get(value) or self.bound.given(value)
        with self.recorder.group("outputs"):
            movement.move(self.k, placed, self.bound.output(value))

    def _free(self, position: int) -> None:
        for value in [v for v in self.spent if self.residency.last_use(v) <= position]:
            self.residency.give_back(self.spent.pop(value))


IN_PLACE = frozenset({"scatter", "dynamic_update_slice"})
"""Operators that write to their first operand's memory where an output takes it over."""

PIECEWISE = frozenset(
    {
        *("argreduce", "bitcast", "cumulative", "dynamic_slice", "dynamic_update_slice"),
        *("gather_along", "gather_nd", "iota", "pad", "reshape", "reverse", "scatter_nd"),
        *("slice", "topk"),
    }
)
"""Operators that write their results piece by piece, from any row on, as only DMA to HBM can."""


def _tiles_start_legally(node: Node, shape: tuple[int, ...]) -> bool:
    """Tell whether an op's tiles of rows start on partitions where engines may start.

    Attention and batched products write the rows of each batch entry; a reduction that drops its
    dimension writes a column where the value has a row.
    """
    op, axis = node.op.name, getattr(node.op, "axis", 0)
    if op in PIECEWISE or (op == "concat" and axis != len(shape) - 1):
        return False
    if op == "take" and (axis != 0 or len(node.inputs[0].shape) != 2):
        return False
    if op == "reduce":
        return len(shape) > 1 and shape[-1] == 1
    if op not in ("attention", "matmul") or len(shape) < 3:
        return True
    length, entries = shape[-2], shape[0] if op == "attention" else prod(shape[:-2])
    if op == "attention" and length <= FEW_QUERIES:
        return False
    return entries == 1 or length % 128 == 0 or length in (32, 64)


def _fresh(placed: Placed) -> Placed:
    """Return the same storage without the memory of a copy in HBM: it was written again."""
    return Placed(placed.storage, placed.view, placed.columns, placed.rows)


def _starred(scope: str) -> str:
    """Return a layer's scope with its number replaced: it stands for every layer."""
    parts = scope.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            parts[i] = "*"
            break
    return ".".join(parts)
