"""The debugger: the first layer whose values drift from the framework's, and the cast behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np

from emuron.compiler.evaluate import Evaluator, WeightCache
from emuron.compiler.graph import Graph, Node, Value
from emuron.compiler.ops import Autocast
from emuron.compiler.ops.context import NO_AUTOCAST
from emuron.errors import UnknownNameError, UsageError
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import DType
from emuron.numerics.rounding import round_to, widen

DEFAULT_BOUND = 0.01
"""Relative error from which a value is said to drift: some roundings to bfloat16 (2**-9 each)."""


@dataclass(frozen=True, slots=True)
class NodeDrift:
    """How far a node's outputs are from the framework's.

    `drift` is what has gathered on the way to here, `own` what this node alone adds when it is
    given the framework's values. Both are relative: ‖ours − theirs‖ / ‖theirs‖.
    """

    node: str
    op: str
    layer: str
    source: str
    drift: float
    own: float


@dataclass(frozen=True, slots=True)
class CastEffect:
    """One rounding in a node: what is rounded, from which dtype to which, and its effect alone."""

    cast: str
    from_dtype: str
    to_dtype: str
    error: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the debugger found.

    `nodes` are in the order of evaluation. `first` is the first that drifts beyond `bound`;
    `culprit` is the one up to it that adds most, `casts` are its roundings, largest effect first.
    """

    bound: float
    nodes: tuple[NodeDrift, ...]
    first: NodeDrift | None
    culprit: NodeDrift | None
    casts: tuple[CastEffect, ...]

    def layers(self) -> tuple[NodeDrift, ...]:
        """Return for each layer its last node, with the largest `own` of the layer's nodes."""
        found: dict[str, NodeDrift] = {}
        for node in self.nodes:
            before = found.get(node.layer)
            own = node.own if before is None else max(node.own, before.own)
            found[node.layer] = NodeDrift(
                node.node, node.op, node.layer, node.source, node.drift, own
            )
        return tuple(found.values())


def debug(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    autocast: Autocast,
    *,
    bound: float = DEFAULT_BOUND,
    captured: Mapping[str, np.ndarray] | None = None,
    backend: Backend | str = "numpy",
    weights: WeightCache | None = None,
    framework: Graph | None = None,
) -> Diagnosis:
    """Return where the values of a graph drift from the framework's, and which cast does it.

    The framework's values are those of the graph without automatic casts (of `framework`, if
    weights of `graph` are stored in 8 bits), or those in `captured` for the values, nodes or layers
    (by their last node) that it names. Raises UsageError for a captured name or shape that the
    graph does not have.
    """
    if not bound > 0:
        raise UsageError(f"the bound of a drift must be above 0, found {bound:g}")
    weights = WeightCache() if weights is None else weights
    exact = Evaluator(graph, backend, NO_AUTOCAST, weights)
    chip = Evaluator(graph, exact.backend, autocast, weights)
    theirs = Evaluator(framework or graph, exact.backend, NO_AUTOCAST, weights).run_all(inputs)
    ours = chip.run_all(inputs)
    wanted = {**theirs, **_by_value(graph, captured or {})}
    comparison = _Comparison(exact, chip, inputs, theirs, ours, wanted)
    compared = [(node, comparison.drift(node)) for node in graph.nodes if _is_float(node)]
    drifts = tuple(drift for _, drift in compared)
    place = next((i for i, drift in enumerate(drifts) if drift.drift > bound), None)
    if place is None:
        return Diagnosis(bound, drifts, None, None, ())
    worst = max(range(place + 1), key=lambda i: drifts[i].own)
    casts = comparison.casts(compared[worst][0])
    return Diagnosis(bound, drifts, drifts[place], drifts[worst], casts)


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return ‖found − wanted‖ / ‖wanted‖; infinite where only one of them is finite."""
    x, y = (np.asarray(a).astype(np.float64).reshape(-1) for a in (found, wanted))
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if same.all():
        return 0.0
    x, y = np.where(same, 0.0, x), np.where(same & ~np.isfinite(y), 0.0, y)
    difference = float(np.linalg.norm(x - np.where(same, 0.0, y)))
    size = float(np.linalg.norm(y))
    return difference / size if np.isfinite(difference) and size else inf


def _is_float(node: Node) -> bool:
    return node.outputs[0].type.dtype.kind == "float"


def _by_value(graph: Graph, captured: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return captured arrays by the name of the value that each belongs to."""
    values = {v.name: v for node in graph.nodes for v in node.outputs}
    named = {node.name: node.outputs[0] for node in graph.nodes}
    layers = {node.scope: node.outputs[0] for node in graph.nodes if _is_float(node)}
    known = {**layers, **named, **values}
    found = {}
    for name, array in captured.items():
        if name not in known:
            raise UnknownNameError("layer or value", name, known)
        value = known[name]
        if tuple(array.shape) != value.shape:
            raise UsageError(
                f"the captured {name!r} has shape {list(array.shape)}, the graph has {value}"
            )
        found[value.name] = array
    return found


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Values of a graph with and without casts, and the framework's, by value name."""

    exact: Evaluator
    chip: Evaluator
    inputs: Mapping[str, np.ndarray]
    theirs: Mapping[str, np.ndarray]
    ours: Mapping[str, np.ndarray]
    wanted: Mapping[str, np.ndarray]

    def drift(self, node: Node) -> NodeDrift:
        """Return how far a node's first output is from the framework's."""
        name = node.outputs[0].name
        alone = self.chip.run_node(node, self._operands(node))[0]
        own = relative_error(alone, self.theirs[name]) + self._narrowing(node)
        gathered = relative_error(self.ours[name], self.wanted[name])
        return NodeDrift(node.name, node.op.name, node.scope, node.source, gathered, own)

    def casts(self, node: Node) -> tuple[CastEffect, ...]:
        """Return the effect of each rounding of a node by itself, the largest first."""
        cast, output = self.chip.autocast, node.outputs[0]
        operands = self._operands(node)
        found = [self._rounding(node, operands, i) for i in range(len(node.inputs))]
        written = cast.written(output.type.dtype)
        if written != output.type.dtype:
            exact = self.theirs[output.name]
            error = relative_error(_rounded(exact, output.type.dtype, written), exact)
            found.append(_effect("the result", output.type.dtype, written, error))
        if narrowing := self._narrowing(node):
            source = node.inputs[0].type.dtype
            found.append(_effect("the model's own cast", source, output.type.dtype, narrowing))
        found.append(self._storage(node))
        effects = [effect for effect in found if effect is not None]
        return tuple(sorted(effects, key=lambda effect: -effect.error))

    def _storage(self, node: Node) -> CastEffect | None:
        """Return what storing the node's weight in 8 bits alone does to its output."""
        if not getattr(node.op, "scaled", False):
            return None
        stored, output = node.inputs[1], node.outputs[0]
        error = relative_error(self._without_casts(node), self.theirs[output.name])
        what = f"the weight as stored, {stored.name}"
        return _effect(what, output.type.dtype, stored.type.dtype, error)

    def _without_casts(self, node: Node) -> np.ndarray:
        """Return a node's first output from the framework's values, with its weights as stored."""
        return self.exact.run_node(node, self._operands(node))[0]

    def _rounding(
        self, node: Node, operands: dict[Value, np.ndarray], index: int
    ) -> CastEffect | None:
        """Return what rounding one operand alone does to the node's output."""
        value, cast = node.inputs[index], self.chip.autocast
        stored = value.type.dtype
        to = cast.operand(stored) if index in node.op.contracts else stored
        if to == stored and self.exact.is_parameter(value):
            to = cast.written(stored)
        if to == stored:
            return None
        array = operands.get(value)
        array = self._weight(value) if array is None else array
        changed = {**operands, value: _rounded(array, stored, to)}
        output = self.exact.run_node(node, changed)[0]
        error = relative_error(output, self._without_casts(node))
        kind = "weight" if self.exact.is_parameter(value) else "value"
        return _effect(f"operand {index}, the {kind} {value.name}", stored, to, error)

    def _operands(self, node: Node) -> dict[Value, np.ndarray]:
        """Return the framework's values that a node reads; weights are left to the evaluator."""
        inputs = {v: np.asarray(self.inputs[v.name]) for v in self.exact.graph.inputs}
        return {
            v: inputs[v].astype(v.type.dtype.np) if v in inputs else self.theirs[v.name]
            for v in node.inputs
            if not self.exact.is_parameter(v)
        }

    def _weight(self, value: Value) -> np.ndarray:
        return self.exact.on_host(self.exact.parameter(value, None), value.type.dtype)

    def _narrowing(self, node: Node) -> float:
        """Return what a cast to fewer bits that stands in the model itself loses."""
        if node.op.name != "cast" or not _narrows(node.inputs[0], node.outputs[0]):
            return 0.0
        source = self._operands(node).get(node.inputs[0])
        if source is None:
            source = self._weight(node.inputs[0])
        return relative_error(self.theirs[node.outputs[0].name], source)


def _narrows(source: Value, result: Value) -> bool:
    found, to = source.type.dtype, result.type.dtype
    return found.kind == to.kind == "float" and to.mantissa_bits < found.mantissa_bits


def _effect(what: str, found: DType, to: DType, error: float) -> CastEffect:
    return CastEffect(what, str(found), str(to), error)


def _rounded(array: np.ndarray, stored: DType, to: DType) -> np.ndarray:
    """Return an array stored as `stored` with its elements on the grid of `to`."""
    return round_to(widen(round_to(widen(array, stored), to), to), stored)
