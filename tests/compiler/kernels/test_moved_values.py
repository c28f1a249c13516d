"""Kernels that move parts of values, within longer graphs and beyond one tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import float32, int32
from emuron.runtime.device import Device

Make = Callable[..., Value]


def product_with_transpose(b: GraphBuilder, x: Value, y: Value) -> Value:
    """x · yᵀ; the matmul finds y column by column."""
    return b.matmul(x, b.permute(y, 0, 2, 1))


CHAINS: dict[str, tuple[Make, tuple[tuple[int, ...], ...]]] = {
    "rows joined": (lambda b, x, y: b.concat([x, y], 0), ((3, 4), (5, 4))),
    "multiplied by a transpose": (product_with_transpose, ((2, 5, 140), (2, 150, 140))),
    "columns joined": (lambda b, x, y: b.concat([x, y], 1), ((3, 4), (3, 5))),
    "transposed and reshaped": (lambda b, x: b.reshape(b.permute(x, 1, 0), 4, 12), ((6, 8),)),
    "cut through merged dimensions": (
        lambda b, x: b.slice(b.reshape(b.permute(x, 1, 0), 48), 0, 5, 29),
        ((6, 8),),
    ),
    "padded": (lambda b, x: b.pad(x, (1, 2), (130, -1), value=2.0), ((140, 7),)),
    "reflected": (lambda b, x: b.pad(x, (2, 3), (1, 2), mode="reflect"), ((140, 7),)),
    "reversed": (lambda b, x: b.reverse(x, (0, 1)), ((140, 7),)),
    "columns taken": (
        lambda b, x: b.take(x, b.constant([3, 0, 2, 2], TensorType((2, 2), int32)), 1),
        ((140, 5),),
    ),
    "summed over rows": (lambda b, x: b.cumulative(x, 0, reverse=True), ((9, 140),)),
    "largest": (lambda b, x: b.topk(x, 11)[0], ((3, 40),)),
    "window": (
        lambda b, x: b.dynamic_slice(
            x, b.constant([1, 2, 9], TensorType((3,), "int32")), (2, 2, 5)
        ),
        ((3, 4, 8),),
    ),
}


def both(make: Make, *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    b = GraphBuilder("moved")
    names = [f"x{i}" for i in range(len(arrays))]
    values = [b.input(n, TensorType(a.shape, float32)) for n, a in zip(names, arrays, strict=True)]
    b.output("y", make(b, *values))
    graph, target = b.finish(), instance("trn2.3xlarge")
    inputs = dict(zip(names, arrays, strict=True))
    executable = compile_graph(graph, target.chip.core, CompileOptions(Autocast(), strict=True))
    return Device(target).run(executable, inputs)["y"], Evaluator(graph).run(inputs)["y"]


@pytest.mark.parametrize("name", CHAINS)
def test_values_that_stay_on_chip_are_moved_too(name: str) -> None:
    """What is moved comes from one kernel and goes to another."""
    make, shapes = CHAINS[name]
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    executed, evaluated = both(lambda b, *v: b.silu(make(b, *map(b.silu, v))), *arrays)
    np.testing.assert_array_equal(executed, evaluated)


def test_the_place_of_an_extreme_is_found_in_a_row_of_several_pieces() -> None:
    x = np.zeros((3, 9000), np.float32)
    x[0, 8500], x[1, [4095, 4096]], x[2, [100, 200]] = 1, 2, (np.nan, np.nan)
    executed, evaluated = both(lambda b, x: b.argreduce("max", x, 1), x)
    assert executed.tolist() == evaluated.tolist() == [8500, 4095, 100]


def test_equal_values_come_in_the_order_of_their_places() -> None:
    x = np.array([[1, 5, 5, 0, 5, 5, 5, 5, 5, 5, 5, 2]], np.float32)
    executed, evaluated = both(lambda b, x: b.topk(x, 11)[1], x)
    expected = [[1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 0]]
    assert executed.tolist() == evaluated.tolist() == expected


@pytest.mark.parametrize("largest", [True, False])
def test_the_largest_of_a_vocabulary_are_found_piece_by_piece(largest: bool) -> None:
    rng = np.random.default_rng(8)
    x = rng.integers(-300, 300, (2, 20_000)).astype(np.float32)  # with many equal ones
    for output in (0, 1):
        found = both(lambda b, x, i=output: b.topk(x, 12, largest=largest)[i], x)
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("read_later", [False, True])
def test_a_window_of_a_cache_is_written_in_place(read_later: bool) -> None:
    """What reads the cache after the write still finds the old one."""
    b = GraphBuilder("cache")
    cache, new = (b.input(n, TensorType((s, 6), float32)) for n, s in (("cache", 300), ("new", 2)))
    start = b.input("start", TensorType((2,), int32))
    updated = b.dynamic_update_slice(cache, new, start)
    if read_later:
        b.output("old", b.silu(cache))
    b.output("cache", updated, alias=cache)
    graph, target = b.finish(), instance("trn2.3xlarge")
    rng = np.random.default_rng(2)
    inputs = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs[:2]}
    inputs["start"] = np.array([297, 0], np.int32)
    executable = compile_graph(graph, target.chip.core, CompileOptions(Autocast(), strict=True))
    expected = Evaluator(graph).run(inputs)
    found = Device(target).run(executable, inputs)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("combiner", ["set", "add"])
def test_many_rows_are_scattered_one_after_another(combiner: str) -> None:
    rng = np.random.default_rng(4)
    places = rng.integers(0, 40, 200).tolist()

    def scattered(b: GraphBuilder, x: Value, update: Value) -> Value:
        index = b.constant(places, TensorType((200,), int32))
        return b.scatter_nd(x, update, [index], [0], combiner)

    arrays = (rng.standard_normal((n, 6)).astype(np.float32) for n in (40, 200))
    np.testing.assert_array_equal(*both(scattered, *arrays))
