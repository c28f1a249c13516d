"""Every op's kernel gives, instruction by instruction, the bits that its `evaluate` gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, NodeBuilder, TensorType
from emuron.compiler.ops import OPS, Autocast
from emuron.compiler.ops.context import Example
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.errors import UnsupportedOpError
from emuron.hardware.catalog import instance
from emuron.numerics.matmul import sums_in_order
from emuron.numerics.rounding import round_to
from emuron.runtime.device import Device

EXAMPLES = {
    f"{name}-{number}": example
    for name, op in sorted(OPS.items())
    for number, example in enumerate(op.examples())
}
ON_HOST = frozenset(
    {
        "cumulative-5",
        *("floordiv-2", "histogram", "mod-2"),
        *("rem-2", "rng_bits", "scatter_nd-6", "sort", "topk-1"),
        "while",
        "gru-3",
        "grouped_matmul",
    }
)
"""Operators, or single examples, without instructions on the chip, or none worth using."""
WITHOUT_KERNEL = frozenset(name for name in EXAMPLES if ON_HOST & {name, name.rpartition("-")[0]})
PRODUCTS = Autocast("matmult")
CASES = [
    pytest.param(example, cast, id=f"{name}-{cast.mode}")
    for name, example in EXAMPLES.items()
    for cast in ((Autocast(), PRODUCTS) if example.op.contracts else (Autocast(),))
    if name not in WITHOUT_KERNEL
]


def values(type: TensorType, bounds: tuple[float, float], seed: int) -> np.ndarray:
    """Return random values of a type, whole numbers for integers."""
    random = np.random.default_rng(seed)
    if type.dtype.kind == "bool":
        return random.integers(0, 2, type.shape).astype(type.dtype.np)
    if type.dtype.kind in ("int", "uint"):
        low, high = (round(b) for b in bounds)
        return random.integers(low, high + 1, type.shape).astype(type.dtype.np)
    return round_to(random.uniform(*bounds, type.shape).astype(np.float32), type.dtype)


def graph_of(example: Example) -> tuple[Graph, dict[str, np.ndarray]]:
    """Return a graph of one op with its inputs; a linear layer's weight and bias are parameters."""
    builder = NodeBuilder("one_op")
    ranges = example.ranges or ((-2.0, 2.0),) * len(example.types)
    operands, inputs = [], {}
    for number, (type, bounds) in enumerate(zip(example.types, ranges, strict=True)):
        array = values(type, bounds, number)
        if example.op.name in ("linear", "conv", "lstm", "gru") and number > 0:
            operands.append(builder.parameter(f"p{number}", type, lambda array=array: array))
            continue
        operands.append(builder.input(f"x{number}", type))
        inputs[f"x{number}"] = array
    for number, value in enumerate(builder.append(example.op, *operands)):
        builder.output(f"y{number}", value)
    return builder.finish(), inputs


def both(graph: Graph, inputs: dict[str, Any], cast: Autocast, on: str) -> list[tuple[Any, Any]]:
    target = instance(on)
    executable = compile_graph(graph, target.chip.core, CompileOptions(cast, strict=True))
    executed = Device(target).run(executable, inputs)
    evaluated = Evaluator(graph, "numpy", cast).run(inputs)
    return [(executed[name], evaluated[name]) for name in evaluated]


@pytest.mark.parametrize("on", ["inf2.xlarge", "trn2.3xlarge"])
@pytest.mark.parametrize(("example", "cast"), CASES)
def test_executing_the_kernel_gives_the_bits_of_evaluate(
    example: Example, cast: Autocast, on: str
) -> None:
    if example.op.contracts and not sums_in_order():
        pytest.skip("this host's BLAS adds small products in another order: low bits differ")
    graph, inputs = graph_of(example)
    for executed, evaluated in both(graph, inputs, cast, on):
        np.testing.assert_array_equal(
            np.asarray(executed, np.float32), np.asarray(evaluated, np.float32)
        )


@pytest.mark.parametrize("name", sorted(WITHOUT_KERNEL))
def test_an_example_without_a_kernel_is_refused_by_name(name: str) -> None:
    graph, _ = graph_of(EXAMPLES[name])
    core = instance("inf2.xlarge").chip.core
    with pytest.raises(UnsupportedOpError, match=name.rpartition("-")[0]):
        compile_graph(graph, core, CompileOptions(Autocast(), strict=True))
