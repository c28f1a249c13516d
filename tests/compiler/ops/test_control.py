"""Graphs within operators: what they refuse, and how they are expanded."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType, block_hash
from emuron.compiler.ops import Autocast, GraphBuilder, control
from emuron.compiler.ops.control import Scan
from emuron.compiler.ops.kernel_call import KernelCall, KernelFunction
from emuron.compiler.passes.expand import expand_composites
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.errors import UnsupportedOpError, UsageError
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import bool_, float32
from emuron.runtime.device import Device

ROW = TensorType((4,), float32)


def body(name: str, *types: TensorType, step) -> Graph:
    b = GraphBuilder(name)
    for i, value in enumerate(step(b, *(b.input(f"x{i}", t) for i, t in enumerate(types)))):
        b.output(f"y{i}", value)
    return b.finish()


def looped(length: int = 3) -> Graph:
    """A scan whose rounds multiply a matrix and hand on a sum, called within a layer."""

    def step(b, weight, carried, x):
        y = b.linear(b.add(carried, x), weight)
        return y, b.softmax(y)

    inner = body("round", TensorType((4, 4), float32), ROW, ROW, step=step)
    b = GraphBuilder("looped")
    weight, start = b.input("weight", TensorType((4, 4), float32)), b.input("start", ROW)
    rows = b.input("rows", TensorType((length, 4), float32))
    with b.scope("layers.0"):
        last, stacked = b.scan(inner, length, [start], [rows], [weight])
    b.output("last", last)
    b.output("stacked", stacked)
    return b.finish()


@pytest.mark.parametrize("mode", ["none", "all"])
def test_an_expanded_graph_gives_the_bits_of_the_composite(mode: str) -> None:
    graph, rng = looped(), np.random.default_rng(1)
    inputs = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    whole = Evaluator(graph, "numpy", Autocast(mode)).run(inputs)
    parts = Evaluator(expand_composites(graph), "numpy", Autocast(mode)).run(inputs)
    for name, found in parts.items():
        np.testing.assert_array_equal(found, whole[name])


def test_parts_take_over_the_scope_of_a_composite() -> None:
    scopes = {node.scope for node in expand_composites(looped()).nodes}
    assert {f"layers.0.{i}" for i in range(3)} <= scopes


def test_a_loop_too_long_to_unroll_is_refused_in_strict_mode(monkeypatch) -> None:
    monkeypatch.setattr(control, "MOST_UNROLLED_NODES", 8)
    with pytest.raises(UnsupportedOpError, match="too long to unroll"):
        compile_graph(looped(), instance("inf2.xlarge").chip.core, CompileOptions(strict=True))


def test_the_untaken_branch_is_not_evaluated() -> None:
    """Its index lies outside, which raises where it is evaluated."""
    table = TensorType((2, 4), float32)

    def lookup(b, x):
        return (b.take(x, b.full(7, (1,), "int32")),)

    def first(b, x):
        return (b.slice(x, 0, 0, 1),)

    branches = [body("first", table, step=first), body("beyond", table, step=lookup)]
    b = GraphBuilder("choice")
    which, x = b.input("which", TensorType((), bool_)), b.input("x", table)
    b.output("y", *b.cond(which, branches, x))
    data = np.ones((2, 4), np.float32)
    found = Evaluator(b.finish()).run({"which": np.array(False), "x": data})
    np.testing.assert_array_equal(found["y"], data[:1])


def test_branches_of_other_types_are_refused() -> None:
    one = body("one", ROW, step=lambda b, x: (x,))
    two = body("two", ROW, step=lambda b, x: (b.cast(x, "bfloat16"),))
    b = GraphBuilder("choice")
    which, x = b.input("which", TensorType((), bool_)), b.input("x", ROW)
    with pytest.raises(UsageError, match="branches 0 and 1 return different types"):
        b.cond(which, [one, two], x)


def test_a_loop_whose_body_changes_a_type_is_refused() -> None:
    below = body("below", ROW, step=lambda b, x: (b.compare("lt", b.reduce("sum", x, (0,)), 9.0),))
    narrow = body("narrow", ROW, step=lambda b, x: (b.cast(x, "bfloat16"),))
    b = GraphBuilder("loop")
    with pytest.raises(UsageError, match="body must return what it takes"):
        b.while_loop(below, narrow, b.input("x", ROW))


def test_a_stack_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match="does not have 5 slices"):
        Scan(looped().nodes[0].op.body, 5, 1, 1).infer(
            TensorType((4, 4), float32), ROW, TensorType((3, 4), float32)
        )


def test_graphs_that_differ_in_a_body_alone_hash_differently() -> None:
    def called(factor: float) -> str:
        inner = body("inner", ROW, step=lambda b, x: (b.mul(x, factor),))
        b = GraphBuilder("outer")
        b.output("y", *b.call(inner, b.input("x", ROW)))
        return block_hash(b.finish().nodes)

    assert called(2.0) == called(2.0)
    assert called(2.0) != called(3.0)


def test_kernels_of_one_name_with_other_code_have_other_texts() -> None:
    def first():
        def kernel(x):
            return x + 1

        return kernel

    def second():
        def kernel(x):
            return x + 2

        return kernel

    texts = {str(KernelFunction(made())) for made in (first, first, second)}
    assert len(texts) == 2


def test_a_kernel_gets_what_automatic_casts_leave_in_memory() -> None:
    example = KernelCall.examples()[0]
    b = GraphBuilder("kernel")
    x, y = (b.input(n, t) for n, t in zip("xy", example.types, strict=True))
    b.output("z", b.append(example.op, x, y)[0])
    graph, rng, target = b.finish(), np.random.default_rng(6), instance("trn2.3xlarge")
    inputs = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    options = CompileOptions(Autocast("all"), strict=True)
    executable = compile_graph(graph, target.chip.core, options)
    executed = np.asarray(Device(target).run(executable, inputs)["z"], np.float32)
    evaluated = Evaluator(graph, "numpy", Autocast("all")).run(inputs)["z"]
    np.testing.assert_array_equal(executed, evaluated)


def test_a_kernel_that_returns_another_shape_than_declared_is_refused() -> None:
    op = KernelCall.examples()[0].op
    b = GraphBuilder("wrong")
    x = b.input("x", TensorType((4, 10), float32))
    (y,) = b.append(KernelCall(op.kernel, (TensorType((4, 9), float32),), op.named), x, x)
    b.output("y", y)
    with pytest.raises(UsageError, match=r"returned \[\[4, 10\]\], declared are \[\[4, 9\]\]"):
        Evaluator(b.finish()).run({"x": np.ones((4, 10), np.float32)})
