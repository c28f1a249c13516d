"""Control flow: graphs within operators, called, chosen, repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from emuron.compiler.graph import Array, Graph, Op, TensorType, Value
from emuron.compiler.ops.arguments import require
from emuron.compiler.ops.body import run_graph
from emuron.compiler.ops.composite import Composite
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_, float32, int32

if TYPE_CHECKING:
    from emuron.compiler.ops.builder import GraphBuilder

MOST_UNROLLED_NODES = 20_000
"""A longer loop runs on the host: its nodes would be most of the program."""


def types_of(values: tuple[Value, ...]) -> tuple[TensorType, ...]:
    """Return the types of values."""
    return tuple(v.type for v in values)


def require_body(body: Graph, name: str, types: tuple[TensorType, ...]) -> None:
    """Check that a body takes operands of these types and brings no weights of its own."""
    require(not body.parameters, f"{name} has parameters; pass weights as operands")
    taken = types_of(body.inputs)
    require(
        taken == types,
        f"{name} takes {[str(t) for t in taken]}, its operands are {[str(t) for t in types]}",
    )


@op("call")
@dataclass(frozen=True, slots=True)
class Call(Composite):
    """The outputs of `body` on the operands."""

    body: Graph

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return the body's outputs, its nodes in place."""
        require_body(self.body, "body", types_of(operands))
        return b.inline(self.body, operands)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a body of two outputs."""
        x = TensorType((3, 5), float32)
        return (Example(cls(_twice_and_sum(x)), (x, x)),)


@op("cond")
@dataclass(frozen=True, slots=True)
class Cond(Composite):
    """The outputs of the branch that the first operand names, on the other operands.

    A bool_ takes branch 0 if false and 1 if true; an integer counts from 0 and is clamped. On the
    device all branches are computed and the outputs selected.
    """

    branches: tuple[Graph, ...]

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return selections among the outputs of all branches."""
        self._check(types_of(operands))
        which, *rest = operands
        found = b.inline(self.branches[0], rest)
        index = which if which.type.dtype == bool_ else b.cast(which, int32)
        for number, branch in enumerate(self.branches[1:], 1):
            taken = index if index.type.dtype == bool_ else b.compare("ge", index, number)
            other = b.inline(branch, rest)
            pairs = zip(other, found, strict=True)
            found = tuple(b.select(b.reshape(taken), new, old) for new, old in pairs)
        return found

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the outputs of the chosen branch alone."""
        number = int(ev.backend.numpy(arrays[0]).item())
        chosen = self.branches[min(max(number, 0), len(self.branches) - 1)]
        return run_graph(ev, chosen, arrays[1:])

    def _check(self, types: tuple[TensorType, ...]) -> None:
        require(len(types) > 0 and types[0].elements == 1, "the first operand is one number")
        which = types[0].dtype
        require(
            which.is_integer or (which == bool_ and len(self.branches) == 2),
            f"the choice among {len(self.branches)} branches cannot be {types[0]}",
        )
        require(len(self.branches) > 0, "takes at least one branch")
        for number, branch in enumerate(self.branches):
            require_body(branch, f"branch {number}", types[1:])
            require(
                types_of(branch.outputs) == types_of(self.branches[0].outputs),
                f"branches 0 and {number} return different types",
            )

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a choice by truth and one by a number beyond the last branch."""
        x, truth = TensorType((3, 5), float32), TensorType((), bool_)
        branches = (_scaled(x, 2.0), _scaled(x, -3.0))
        return (
            Example(cls(branches), (truth, x)),
            Example(
                cls((*branches, _scaled(x, 5.0))), (TensorType((), int32), x), ((3, 9), (-2, 2))
            ),
        )


@op("while")
@dataclass(frozen=True, slots=True)
class While(Op):
    """The operands after `body` was applied as long as `condition` of them holds.

    condition returns one bool_, body as many values of the same types. The number of rounds is
    data, so the loop runs on the host; one whose rounds are known is a `scan`.
    """

    condition: Graph
    body: Graph
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the operands' types."""
        require_body(self.condition, "condition", types)
        require_body(self.body, "body", types)
        asked = types_of(self.condition.outputs)
        require(
            len(asked) == 1 and asked[0].elements == 1 and asked[0].dtype == bool_,
            f"condition must return one bool_, found {[str(t) for t in asked]}",
        )
        require(types_of(self.body.outputs) == types, "body must return what it takes")
        return types

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return what the last round left."""
        carried = arrays
        while bool(ev.backend.numpy(run_graph(ev, self.condition, carried)[0]).item()):
            carried = run_graph(ev, self.body, carried)
        return carried

    def lower(self, k: object, inputs: tuple[object, ...], outputs: tuple[object, ...]) -> None:
        """Refuse: the device cannot know when to stop."""
        raise UnsupportedOpError("while has no kernel: its number of rounds is data")

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a number doubled until it is large."""
        return (Example(_doubled_until(cls, 100.0), (TensorType((), float32),), ((1.0, 2.0),)),)


@op("scan")
@dataclass(frozen=True, slots=True)
class Scan(Composite):
    """`length` rounds of `body`: a recurrence over slices.

    Operands: `constants` values, the same every round; `carried` values, handed from round to
    round; the rest stacked along dimension 0, a slice a round. body takes them in this order and
    returns the carried values, then slices. Outputs: the last carried values, then the slices
    stacked. With `reverse` the last slice comes first. On the device the rounds are unrolled.
    """

    body: Graph
    length: int
    carried: int
    constants: int = 0
    reverse: bool = False

    def expandable(self) -> bool:
        """Whether the rounds are few enough to be unrolled."""
        return self.length * len(self.body.nodes) <= MOST_UNROLLED_NODES

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the carried values' types, then those of the stacked slices."""
        kept = self.constants + self.carried
        require(
            self.length >= 1 and len(types) >= kept,
            f"takes at least 1 round and {kept} operands, found {self.length} and {len(types)}",
        )
        stacked = types[kept:]
        for type in stacked:
            require(
                type.rank > 0 and type.shape[0] == self.length,
                f"stacked operand {type} does not have {self.length} slices",
            )
        slices = tuple(t.with_shape(*t.shape[1:]) for t in stacked)
        require_body(self.body, "body", (*types[:kept], *slices))
        carried, given = types[self.constants : kept], types_of(self.body.outputs)
        require(given[: self.carried] == carried, "body must return the carried values first")
        return (*carried, *(t.with_shape(self.length, *t.shape) for t in given[self.carried :]))

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return the rounds one after another."""
        self.infer(*types_of(operands))
        kept = self.constants + self.carried
        fixed, carried = operands[: self.constants], operands[self.constants : kept]
        made: list[tuple[Value, ...]] = []
        for i in self._order():
            slices = (self._slice(b, stack, i) for stack in operands[kept:])
            with b.scope(str(i)):
                found = b.inline(self.body, (*fixed, *carried, *slices))
            carried = found[: self.carried]
            made.append(found[self.carried :])
        return (*carried, *(self._stacked(b, row) for row in zip(*made, strict=True)))

    def _order(self) -> range:
        return range(self.length - 1, -1, -1) if self.reverse else range(self.length)

    def _slice(self, b: GraphBuilder, stack: Value, i: int) -> Value:
        return b.reshape(b.slice(stack, 0, i, i + 1), *stack.shape[1:])

    def _stacked(self, b: GraphBuilder, slices: tuple[Value, ...]) -> Value:
        rows = [b.reshape(v, 1, *v.shape) for v in slices]
        return b.concat(rows[::-1] if self.reverse else rows, 0)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the rounds' results, one body after another."""
        kept = self.constants + self.carried
        fixed, carried, stacks = (
            arrays[: self.constants],
            arrays[self.constants : kept],
            arrays[kept:],
        )
        made: list[tuple[Array, ...]] = []
        for i in self._order():
            found = run_graph(ev, self.body, (*fixed, *carried, *(s[i] for s in stacks)))
            carried = found[: self.carried]
            made.append(found[self.carried :])
        b = ev.backend
        rows = [[b.reshape(a, (1, *a.shape)) for a in row] for row in zip(*made, strict=True)]
        return (*carried, *(b.concatenate(r[::-1] if self.reverse else r, 0) for r in rows))

    def lower(self, k: object, inputs: tuple[object, ...], outputs: tuple[object, ...]) -> None:
        """Refuse: the loop was too long to be unrolled."""
        raise UnsupportedOpError(
            f"scan of {self.length} rounds of {len(self.body.nodes)} nodes is too long to unroll "
            f"(at most {MOST_UNROLLED_NODES} nodes)"
        )

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a decaying sum with a constant, and one backwards."""
        rate, row = TensorType((4,), float32), TensorType((5, 4), float32)
        body = _decay(rate)
        return (
            Example(cls(body, 5, carried=1, constants=1), (rate, rate, row)),
            Example(cls(body, 5, carried=1, constants=1, reverse=True), (rate, rate, row)),
        )


def _graph(name: str, *types: TensorType) -> tuple[GraphBuilder, list[Value]]:
    from emuron.compiler.ops.builder import GraphBuilder

    b = GraphBuilder(name)
    return b, [b.input(f"x{i}", t) for i, t in enumerate(types)]


def _finished(b: GraphBuilder, *values: Value) -> Graph:
    for i, value in enumerate(values):
        b.output(f"y{i}", value)
    return b.finish()


def _twice_and_sum(type: TensorType) -> Graph:
    b, (x, y) = _graph("twice_and_sum", type, type)
    return _finished(b, b.mul(x, 2.0), b.add(x, y))


def _scaled(type: TensorType, by: float) -> Graph:
    b, (x,) = _graph("scaled", type)
    return _finished(b, b.mul(x, by))


def _decay(type: TensorType) -> Graph:
    b, (rate, carried, row) = _graph("decay", type, type, type)
    total = b.add(b.mul(carried, rate), row)
    return _finished(b, total, b.mul(total, total))


def _doubled_until(cls: type[While], bound: float) -> While:
    number = TensorType((), float32)
    b, (x,) = _graph("below", number)
    below = _finished(b, b.compare("lt", x, bound))
    return cls(below, _scaled(number, 2.0))
