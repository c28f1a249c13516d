"""MXNet models, `-symbol.json` with `.params`, read without MXNet."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from emuron.compiler.frontends import mxnet_layers as _layers
from emuron.compiler.frontends import mxnet_math as _math
from emuron.compiler.frontends import mxnet_moves as _moves
from emuron.compiler.frontends.known_values import KnownValues, narrow, narrowed
from emuron.compiler.frontends.mxnet_call import TABLE, Call, Operand, Unshaped
from emuron.compiler.frontends.mxnet_params import read_params
from emuron.compiler.frontends.weights import StoredTensor, read_json
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.passes.recognize import recognize
from emuron.errors import EmuronError, ModelFileError, UnknownNameError, UnsupportedOpError
from emuron.numerics.dtypes import float32

MODULES = (_layers, _math, _moves)
"""Where the handlers of the table stand: importing them fills it."""

_MOST_NODES = 100_000
_INDEX_READERS = ("Embedding",)
_WEIGHT_SLOTS = 1
"""From this input on, variables of a layer are its weights; the first is its data."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class MxNetModel:
    """A symbol with its parameters; `stored` is empty for shapes alone."""

    name: str
    path: Path
    nodes: tuple[dict[str, Any], ...]
    heads: tuple[tuple[int, int], ...]
    stored: Mapping[str, StoredTensor] = field(default_factory=dict)
    with_data: bool = True

    @property
    def is_decoder(self) -> bool:
        """Whether it generates text natively: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The one network."""
        return (("forward", 1),)

    def graph(
        self, batch: int = 1, sequence: int = 128, task: str = "", shapes: Shapes | None = None
    ) -> Graph:
        """Build the graph.

        `shapes` gives the inputs' shapes where the symbol does not; sizes that it leaves open (0)
        are `batch` in the first and `sequence` in other places. Raises UnknownNameError for
        another task or input, UnsupportedOpError for an operator that is not known.
        """
        if task not in ("", "forward"):
            raise UnknownNameError("task", task, ("forward",))
        return _Import(self, batch, sequence, dict(shapes or {})).run()


class _Import:
    """The state of one import."""

    def __init__(
        self, model: MxNetModel, batch: int, sequence: int, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self.model = model
        self.b = GraphBuilder(model.name)
        self.known = KnownValues(self.b)
        self.open_sizes = (batch, sequence)
        self.shapes = shapes
        self.results: list[list[Operand]] = []
        nodes = model.nodes
        variables = {n["name"] for n in nodes if n["op"] == "null"}
        for unknown in shapes.keys() - variables:
            raise UnknownNameError("input", unknown, sorted(variables - model.stored.keys()))
        readers = (n["inputs"] for n in nodes if n["op"] in _INDEX_READERS)
        self.indices = {nodes[i[0][0]]["name"] for i in readers if i}
        self.weights = {nodes[i[0]]["name"] for n in nodes for i in n["inputs"][_WEIGHT_SLOTS:]}

    def run(self) -> Graph:
        needed = self._needed()
        for place, node in enumerate(self.model.nodes):
            if place not in needed:
                self.results.append([])
            elif node["op"] == "null":
                self.results.append([self._variable(node)])
            else:
                self.results.append(self._node(node))
        for number, (place, output) in enumerate(self.model.heads):
            value = self._operand(place, output)
            label = "output" if len(self.model.heads) == 1 else f"output_{number}"
            if not isinstance(value, Value):
                raise ModelFileError(f"{self.model.path}: output {number} is a bare variable")
            self.b.output(label, value)
        return recognize(self.b.finish())

    def _needed(self) -> set[int]:
        """Return the nodes that the outputs depend on."""
        needed = {place for place, _ in self.model.heads}
        for place in reversed(range(len(self.model.nodes))):
            if place in needed:
                needed.update(source for source, _ in self.model.nodes[place]["inputs"])
        return needed

    def _variable(self, node: dict[str, Any]) -> Operand:
        name = node["name"]
        stored = self.model.stored.get(name)
        if stored is not None:
            type = TensorType(stored.shape, narrowed(stored.np_dtype))
            what = f"the parameter {name!r}"
            read = partial(_read, stored, what) if self.model.with_data else None
            return self.b.parameter(name, type, read)
        shape = self.shapes.get(name) or self._declared_shape(node)
        if shape:
            return self.b.input(name, self._input_type(name, shape))
        is_weight = name in self.weights and not self.model.stored
        declare = partial(self.b.parameter, name) if is_weight else partial(self.b.input, name)
        return Unshaped(name, declare, is_weight)

    def _declared_shape(self, node: dict[str, Any]) -> tuple[int, ...]:
        call = Call(self.b, self.known, node["name"], "variable", node["attrs"])
        sizes = call.integers("__shape__")
        unknown = (self.open_sizes[0 if i == 0 else 1] for i in range(len(sizes)))
        return tuple(u if s <= 0 else s for s, u in zip(sizes, unknown, strict=True))

    def _input_type(self, name: str, shape: tuple[int, ...]) -> TensorType:
        return TensorType(shape, float32).with_dtype("int32" if name in self.indices else "float32")

    def _operand(self, place: int, output: int) -> Operand:
        if not 0 <= place < len(self.results) or not 0 <= output < len(self.results[place]):
            raise ModelFileError(
                f"{self.model.path}: output {output} of node {place} is read, and does not exist "
                "or comes later"
            )
        return self.results[place][output]

    def _node(self, node: dict[str, Any]) -> list[Operand]:
        name, op = node["name"], node["op"]
        handler = TABLE.get(op)
        if handler is None:
            raise UnsupportedOpError(
                f"{op} at {name!r}: the MXNet front end does not know this operator"
            )
        operands = [self._operand(place, output) for place, output in node["inputs"]]
        call = Call(self.b, self.known, name, op, node["attrs"])
        scope = name.rpartition("_")[0]
        with self.b.at(name), self.b.scope(scope) if scope else nullcontext():
            try:
                found = handler(call, *operands)
            except EmuronError as error:
                raise UnsupportedOpError(f"{op} at {name!r}: {error}") from error
            except (TypeError, IndexError, ValueError, ZeroDivisionError) as error:
                raise ModelFileError(
                    f"{op} at {name!r}: its {len(operands)} inputs or its attributes are not those "
                    f"of this operator ({error})"
                ) from error
        return found if isinstance(found, list) else [found]


def _read(stored: StoredTensor, what: str) -> Any:
    return narrow(stored.read(), what)


def load(path: str | Path, *, weights: bool = True) -> MxNetModel:
    """Open a `-symbol.json` file, or the `.params` file beside it.

    The parameters are those of the one `.params` file that belongs to the symbol; without
    `weights` graphs are made of shapes alone. Raises ModelFileError for a damaged file.
    """
    file = Path(path)
    if file.suffix == ".params":
        stem = file.stem.rpartition("-")[0] or file.stem
        params, symbol = [file], file.with_name(f"{stem}-symbol.json")
    else:
        symbol, stem = file, file.stem.removesuffix("-symbol")
        params = sorted(file.parent.glob(f"{stem}-[0-9]*.params"))
        params = params or [p for p in [file.with_name(f"{stem}.params")] if p.is_file()]
    parsed = read_json(symbol)
    nodes, heads = _nodes(symbol, parsed), parsed.get("heads")
    if not isinstance(heads, list) or not heads or not all(_is_reference(h) for h in heads):
        raise ModelFileError(f"{symbol}: 'heads' must list the outputs of the symbol")
    stored = read_params(params[-1]) if params else {}
    outputs = tuple((h[0], h[1]) for h in heads)
    return MxNetModel(stem, symbol, nodes, outputs, stored, weights and bool(stored))


def to_graph(path: str | Path, *, weights: bool = True, **options: Any) -> Graph:
    """Build the graph of a symbol; `options` are those of its `graph`."""
    return load(path, weights=weights).graph(**options)


def _nodes(path: Path, parsed: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the nodes, checked: operator and name are text, inputs refer to earlier nodes."""
    found = parsed.get("nodes")
    if not isinstance(found, list) or len(found) > _MOST_NODES:
        raise ModelFileError(f"{path}: 'nodes' must be a list of at most {_MOST_NODES} nodes")
    nodes = []
    for place, node in enumerate(found):
        if not isinstance(node, dict):
            raise ModelFileError(f"{path}: node {place} is no object")
        attributes: Any = node.get("attrs", node.get("attr", node.get("param", {})))
        inputs = node.get("inputs", [])
        well = (
            isinstance(node.get("op"), str)
            and isinstance(node.get("name"), str)
            and isinstance(attributes, dict)
            and isinstance(inputs, list)
            and all(_is_reference(i) and i[0] < place for i in inputs)
        )
        if not well:
            raise ModelFileError(
                f"{path}: node {place} ({node.get('name')!r}) is malformed: it needs an operator, "
                "a name, attributes, and inputs that are earlier nodes"
            )
        nodes.append(
            {
                "op": node["op"],
                "name": node["name"],
                "attrs": {str(k): str(v) for k, v in attributes.items()},
                "inputs": [(i[0], i[1]) for i in inputs],
            }
        )
    return tuple(nodes)


def _is_reference(found: object) -> bool:
    return (
        isinstance(found, list)
        and len(found) in (2, 3)
        and all(type(n) is int and n >= 0 for n in found[:2])
    )
