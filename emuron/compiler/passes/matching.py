"""What the patterns of `match_composites` work with: the graph as it is rewritten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from emuron.compiler.graph import Graph, Node, Op, Parameter, Value
from emuron.compiler.ops.creation import Full
from emuron.compiler.ops.shaping import Broadcast, Permute, Reshape

_MOST_REWRITES = 32
_MOST_FACTORS = 8
CONSTANT_ERROR = 2.0**-8
"""Two constants closer than this are one: source models round them, to bfloat16 at worst."""

_SCALING = ("mul", "div", "neg", "pow")


def is_close(found: float | None, expected: float) -> bool:
    """Tell whether a constant of a model is `expected`, but for its rounding."""
    return found is not None and abs(found - expected) <= CONSTANT_ERROR * abs(expected)


@dataclass(slots=True, eq=False)
class Matching:
    """The rewritten nodes so far, who made each value and what replaces which value."""

    graph: Graph
    patterns: Mapping[str, tuple[Pattern, ...]]
    nodes: list[Node] = field(default_factory=list)
    made: dict[Value, Node] = field(default_factory=dict)
    stands_for: dict[Value, Value] = field(default_factory=dict)
    parameters: dict[Value, Parameter] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.parameters = {p.value: p for p in self.graph.parameters}
        self.names = {n.name for n in self.graph.nodes}

    def visit(self, node: Node) -> None:
        """Keep a node, and let what the patterns make of it stand for what it computes."""
        node = replace(node, inputs=tuple(self.stands_for.get(v, v) for v in node.inputs))
        self._keep(node)
        original = node.outputs[0]
        found = self.settled(original)
        if found is not original:
            self.stands_for[original] = found

    def settled(self, value: Value) -> Value:
        """Return what the patterns make of a value, one after another."""
        for _ in range(_MOST_REWRITES):
            better = self._rewritten(value)
            if better is None:
                break
            value = better
        return value

    def _rewritten(self, value: Value) -> Value | None:
        """Return what the first pattern that fits makes of a value."""
        node = self.made.get(value)
        for pattern in self.patterns.get(node.op.name, ()) if node is not None else ():
            assert node is not None
            found = pattern(self, node)
            if found is not None and found is not value and found.type == value.type:
                return found
        return None

    def _keep(self, node: Node) -> None:
        self.nodes.append(node)
        self.made.update(dict.fromkeys(node.outputs, node))
        self.names.add(node.name)

    # What patterns write

    def emit(self, like: Node, op: Op, *inputs: Value) -> Value:
        """Append a node in the place of `like`."""
        (type,) = op.infer(*(v.type for v in inputs))
        name = f"{like.name.partition('.')[0]}.{op.name}_{len(self.nodes)}"
        while name in self.names:
            name += "_"
        value = Value(name, type)
        self._keep(Node(op, inputs, (value,), name, like.scope, like.source))
        return value

    def reshape(self, like: Node, x: Value, *shape: int) -> Value:
        """Return x in another shape; of two reshapes in turn, one."""
        x = self.through(x, "reshape")
        return x if x.shape == shape else self.emit(like, Reshape(shape), x)

    def permute(self, like: Node, x: Value, *axes: int) -> Value:
        """Return x with its dimensions in another order; of two orders in turn, one."""
        before = self.maker(x, "permute")
        if before is not None and isinstance(before.op, Permute):
            x, axes = before.inputs[0], tuple(before.op.axes[a] for a in axes)
        return x if axes == tuple(sorted(axes)) else self.emit(like, Permute(axes), x)

    # What patterns ask

    def maker(self, value: Value, *names: str) -> Node | None:
        """Return the node that made a value if its operator is one of `names`."""
        node = self.made.get(value)
        return node if node is not None and node.op.name in names else None

    def through(self, value: Value, *names: str) -> Value:
        """Return what a value is made of, behind operators of one operand called `names`."""
        while (node := self.maker(value, *names)) is not None:
            value = node.inputs[0]
        return value

    def number(self, value: Value) -> float | None:
        """Return the number that a value is everywhere."""
        node = self.maker(self.through(value, "broadcast", "reshape"), "full", "cast")
        if node is not None and node.op.name == "cast":
            both_floats = {value.type.dtype.kind, node.inputs[0].type.dtype.kind} == {"float"}
            return self.number(node.inputs[0]) if both_floats else None
        return node.op.value if node is not None and isinstance(node.op, Full) else None

    def with_number(self, value: Value, name: str) -> tuple[Value, float] | None:
        """Return x and n if a value is x `name` n; where order does not matter, in any."""
        node = self.maker(value, name)
        if node is None:
            return None
        x, y = node.inputs
        number = self.number(y)
        if number is not None:
            return x, number
        number = self.number(x) if name in ("add", "mul", "max", "min") else None
        return None if number is None else (y, number)

    def product(self, value: Value) -> tuple[float, tuple[Value, ...]]:
        """Return the number and the factors whose product a value is, powers written out."""
        number, factors, left = 1.0, list[Value](), [value]
        while left:
            factor = left.pop()
            node = self.maker(factor, *_SCALING)
            constant = self.number(factor)
            if constant is not None:
                number *= constant
            elif node is None or len(left) + len(factors) >= _MOST_FACTORS:
                factors.append(factor)
            else:
                number *= self._opened(node, factor, left, factors)
        return number, tuple(factors)

    def _opened(self, node: Node, value: Value, left: list[Value], factors: list[Value]) -> float:
        """Put the parts of a value on the list, or itself if it has none; return its number."""
        x, number = node.inputs[0], self.number(node.inputs[-1])
        if node.op.name in ("mul", "neg"):
            left += node.inputs
            return -1.0 if node.op.name == "neg" else 1.0
        if node.op.name == "div" and number:
            left.append(x)
            return 1 / number
        if node.op.name == "pow" and number in (2, 3):
            left += [x] * int(number)
        else:
            factors.append(value)
        return 1.0

    def vector(self, like: Node, value: Value) -> Value | None:
        """Return the [C] tensor that a value repeats along its last dimension C, or None."""
        if not value.shape:
            return None
        size, source, last = value.shape[-1], value, value.type.rank - 1
        while (node := self.maker(source, "broadcast", "reshape")) is not None:
            inner = node.inputs[0]
            if isinstance(node.op, Broadcast):
                if last not in node.op.dims:
                    return None
                last = node.op.dims.index(last)
            elif inner.type.elements != size or source.type.elements != size:
                return None
            else:
                last = inner.type.rank - 1
            source = inner
        if source.type.elements != size or not source.type.rank or source.shape[last] != size:
            return None
        return self.reshape(like, source, size)


Pattern = Callable[[Matching, Node], "Value | None"]
"""Returns what may stand for a node's value, or None where the pattern does not fit."""
