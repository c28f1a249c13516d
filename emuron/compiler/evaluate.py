"""Operator fidelity: a graph evaluated op by op on whole tensors, with the chip's numerics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from emuron.compiler.graph import Array, Graph, Node, Parameter, Value
from emuron.compiler.ops import Autocast, EvalContext
from emuron.compiler.ops.context import NO_AUTOCAST
from emuron.errors import OutOfBoundsError, UsageError
from emuron.numerics.backend import Backend, get_backend
from emuron.numerics.dtypes import DType, dtype, float32
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy


@dataclass(slots=True, eq=False)
class WeightCache:
    """Parameters as a back end holds them, each read and rounded once.

    Share one between the graphs of a model (prefill and decode): the key is the parameter's name
    and type, for tables such as the rotary angles are as long as the graph's context.
    """

    arrays: dict[tuple[str, str], Array] = field(default_factory=dict)


class Evaluator:
    """Runs a graph: values are stored in their dtype, computed in float32 and rounded once."""

    def __init__(
        self,
        graph: Graph,
        backend: Backend | str = "numpy",
        autocast: Autocast = NO_AUTOCAST,
        weights: WeightCache | None = None,
        policy: NumericsPolicy = DEFAULT_POLICY,
    ) -> None:
        """Prepare `graph`; weights are read when first needed and kept in `weights`."""
        self.graph = graph
        self.backend = get_backend(backend) if isinstance(backend, str) else backend
        self.autocast = autocast
        self.policy = policy
        self.weights = WeightCache() if weights is None else weights
        self._parameters = {p.value: p for p in graph.parameters}
        self._uses = Counter(v for node in graph.nodes for v in node.inputs)
        self._uses.update(graph.outputs)
        self._aliased = frozenset(graph.inputs[i] for i in graph.aliases.values())

    def run(
        self, inputs: Mapping[str, np.ndarray], *, donate: bool = False
    ) -> dict[str, np.ndarray]:
        """Return the outputs by name, stored in their dtypes.

        With `donate`, inputs that the graph aliases to outputs (KV caches) are written in place
        where possible: each must be an array of its own, and not be used afterwards. Raises
        UsageError for a missing, unknown or misshapen input.
        """
        run = Run(self)
        run.enter(inputs, donate=donate)
        for node in self.graph.nodes:
            run.step(node)
        return run.outputs()

    def run_all(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every node's outputs by the values' names, for the debugger; nothing is freed."""
        run = Run(self, keep=True)
        run.enter(inputs)
        for node in self.graph.nodes:
            run.step(node)
        values = (v for node in self.graph.nodes for v in node.outputs)
        return {v.name: self.on_host(run.stored[v], v.type.dtype) for v in values}

    def run_node(self, node: Node, operands: Mapping[Value, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return one node's stored outputs, its operands given in their stored dtypes.

        A weight is read from the model unless `operands` holds it too.
        """
        run = Run(self, keep=True)
        run.stored = {v: self.backend.asarray(a) for v, a in operands.items()}
        run.step(node)
        return tuple(self.on_host(run.stored[v], v.type.dtype) for v in node.outputs)

    def on_host(self, stored: Array, to: DType) -> np.ndarray:
        """Return a stored array as NumPy's, 8-bit floats in their own type."""
        found = self.backend.numpy(stored)
        return found if found.dtype == to.np else found.view(to.np)

    def is_parameter(self, value: Value) -> bool:
        """Whether a value is a weight."""
        return value in self._parameters

    def parameter(
        self, value: Value, form: DType | None, order: tuple[int, ...] | None = None
    ) -> Array:
        """Return a weight stored (`form` None) or as float32 on the grid of `form`.

        `order` lays it out in memory with its axes in this order (`Op.weight_order`).
        """
        parameter = self._parameters[value]
        key = (value.name, f"{self.backend.name} {self.autocast} {value.type} {form} {order}")
        found = self.weights.arrays.get(key)
        if found is None:
            found = self.weights.arrays[key] = self._prepared(parameter, form, order)
        return found

    def _prepared(
        self, parameter: Parameter, form: DType | None, order: tuple[int, ...] | None
    ) -> Array:
        type = parameter.type
        stored = self._stored_parameter(parameter)
        if form is None:
            return stored
        working = self.backend.widen(stored, type.dtype)
        if form not in (type.dtype, float32):
            rounded = self.backend.round_to(working, form, self.policy)
            working = self.backend.widen(rounded, form)
        if order is None:
            return working
        laid = self.backend.empty([type.shape[axis] for axis in order], float32)
        self.backend.copyto(laid, self.backend.transpose(working, order))
        return self.backend.transpose(laid, [order.index(axis) for axis in range(len(order))])

    def _stored_parameter(self, parameter: Parameter) -> Array:
        array = parameter.load()
        wanted = self.autocast.written(parameter.type.dtype)
        found = float32 if array.dtype == np.float64 else dtype(array.dtype)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        stored = self.backend.asarray(array)
        if found == wanted == parameter.type.dtype:
            return stored
        working = self.backend.widen(stored, found)
        return self.store(working, parameter.type.dtype)

    def store(self, working: Array, to: DType) -> Array:
        """Return a float32 working array rounded to the dtype it is stored in."""
        return EvalContext(self.backend, self.policy, self.autocast).store(working, to)


class Run:
    """The live values of one evaluation."""

    def __init__(self, evaluator: Evaluator, *, keep: bool = False) -> None:
        self.evaluator = evaluator
        self.backend = evaluator.backend
        self.keep = keep
        self.donated: frozenset[Value] = frozenset()
        self.left = evaluator._uses.copy()
        self.stored: dict[Value, Array] = {}
        self.operands: dict[Value, Array] = {}

    def enter(self, inputs: Mapping[str, np.ndarray], *, donate: bool = False) -> None:
        """Take the graph's inputs; the aliased ones are overwritten if they are donated."""
        self.donated = frozenset(
            v
            for v in self.evaluator._aliased
            if donate and v.name in inputs and np.asarray(inputs[v.name]).flags.writeable
        )
        graph = self.evaluator.graph
        unknown = set(inputs) - {v.name for v in graph.inputs}
        missing = {v.name for v in graph.inputs} - set(inputs)
        if unknown or missing:
            raise UsageError(
                f"graph {graph.name!r} takes {', '.join(v.name for v in graph.inputs)}; "
                f"missing: {sorted(missing) or 'none'}, unknown: {sorted(unknown) or 'none'}"
            )
        for value in graph.inputs:
            self.stored[value] = self._input(value, np.asarray(inputs[value.name]))

    def _input(self, value: Value, array: np.ndarray) -> Array:
        type = value.type
        if tuple(array.shape) != type.shape:
            raise UsageError(
                f"input {value.name!r} has shape {list(array.shape)}, "
                f"the graph was built for {type}"
            )
        if array.dtype != type.dtype.np:
            array = _converted(value, array)
        stored = self.backend.asarray(array)
        if self.evaluator.autocast.written(type.dtype) == type.dtype:
            return stored
        return self.evaluator.store(stored, type.dtype)

    def step(self, node: Node) -> None:
        """Evaluate one node and free what nothing reads any more."""
        try:
            outputs = node.op.evaluate(self.context(node), *self.read(node))
        except OutOfBoundsError as error:
            where = f"node {node.name!r} in {node.scope or 'the top scope'}"
            raise OutOfBoundsError(f"{where}: {error}") from error
        self.keep_outputs(node, outputs)

    def context(self, node: Node) -> EvalContext:
        """Return what a node's `evaluate` is given."""
        evaluator = self.evaluator
        types = tuple(v.type for v in node.inputs)
        owned = frozenset(
            i for i, v in enumerate(node.inputs) if v in self.donated and self.left[v] == 1
        )
        return EvalContext(self.backend, evaluator.policy, evaluator.autocast, types, owned)

    def read(self, node: Node) -> list[Array]:
        """Return a node's operands as its `evaluate` takes them."""
        return [self._read(node, index) for index in range(len(node.inputs))]

    def keep_outputs(self, node: Node, outputs: tuple[Array, ...]) -> None:
        """Round and keep what a node computed; free what nothing reads any more."""
        evaluator = self.evaluator
        stored = node.op.takes_storage(tuple(v.type for v in node.inputs))
        for value, array in zip(node.outputs, outputs, strict=True):
            if not stored:
                array = evaluator.store(array, value.type.dtype)
            self.stored[value] = array
        self.left.subtract(node.inputs)
        if not self.keep:
            self._free(*node.inputs, *node.outputs)

    def outputs(self) -> dict[str, np.ndarray]:
        """Return the graph's outputs by name."""
        graph = self.evaluator.graph
        found = {}
        for name, value in zip(graph.output_names, graph.outputs, strict=True):
            is_weight = self.evaluator.is_parameter(value)
            array = self.evaluator.parameter(value, None) if is_weight else self.stored[value]
            found[name] = self.evaluator.on_host(array, value.type.dtype)
        return found

    def _read(self, node: Node, index: int) -> Array:
        """Return operand `index` as the op expects it: stored, widened, or rounded to contract."""
        value, op = node.inputs[index], node.op
        stored_as = value.type.dtype
        contracted = index in op.contracts
        stored = op.takes_storage(tuple(v.type for v in node.inputs))
        form = self.evaluator.autocast.operand(stored_as) if contracted else stored_as
        if self.evaluator.is_parameter(value) and value not in self.stored:
            if stored:
                return self.evaluator.parameter(value, None)
            return self.evaluator.parameter(value, form, op.weight_order(index, value.type.rank))
        if stored:
            return self.stored[value]
        if form == stored_as:
            return self.backend.widen(self.stored[value], stored_as)
        operand = self.operands.get(value)
        if operand is None:
            working = self.backend.widen(self.stored[value], stored_as)
            rounded = self.backend.round_to(working, form, self.evaluator.policy)
            operand = self.operands[value] = self.backend.widen(rounded, form)
        return operand

    def _free(self, *values: Value) -> None:
        for value in values:
            if self.left[value] <= 0:
                self.stored.pop(value, None)
                self.operands.pop(value, None)


def _converted(value: Value, array: np.ndarray) -> np.ndarray:
    """Narrow host integers after a range check; refuse other conversions."""
    to = value.type.dtype
    if to.kind in ("int", "uint", "bool") and array.dtype.kind in "iub":
        if array.size and (array.min() < to.min or array.max() > to.max):
            raise UsageError(f"input {value.name!r} holds numbers outside {to}")
        return array.astype(to.np)
    raise UsageError(
        f"input {value.name!r} has dtype {array.dtype}, the graph expects {to}; convert it first"
    )
