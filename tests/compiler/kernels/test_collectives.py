"""Exchanges among ranks, executed by all of them, give the bits of `evaluate`."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from emuron.compiler.graph import NodeBuilder, TensorType
from emuron.compiler.ops import EvalContext
from emuron.compiler.ops.collectives import (
    AllGather,
    AllReduce,
    AllToAll,
    CollectivePermute,
    RankOp,
    ReduceScatter,
)
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.errors import UsageError
from emuron.hardware.catalog import instance
from emuron.nki.cores import Team
from emuron.numerics.backend import get_backend
from emuron.numerics.dtypes import float32
from emuron.numerics.numpy_backend import NUMPY
from emuron.runtime.device import Device

RANKS = 4
SHAPE = (8, 3, 4)
OPS = (
    AllReduce(RANKS),
    AllGather(RANKS, 1),
    ReduceScatter(RANKS, 0),
    AllToAll(RANKS, axis=1, split=0),
    AllToAll(RANKS, axis=0, split=2),
    CollectivePermute(RANKS, ((0, 1), (1, 2), (2, 3), (3, 0))),
    CollectivePermute(RANKS, ((3, 1), (1, 0))),
)


def operands() -> list[np.ndarray]:
    return [
        np.random.default_rng(rank).standard_normal(SHAPE).astype(np.float32)
        for rank in range(RANKS)
    ]


@pytest.mark.parametrize("op", OPS, ids=str)
def test_ranks_that_execute_the_kernel_get_the_bits_of_evaluate(op: RankOp) -> None:
    builder = NodeBuilder("exchange")
    x = builder.input("x", TensorType(SHAPE, float32))
    builder.output("y", *builder.append(op, x))
    graph, target = builder.finish(), instance("inf2.48xlarge")
    team = Team(1, RANKS, get_backend("numpy"))
    works = [
        partial(
            Device(target, meet=seat.meet).run,
            compile_graph(graph, target, CompileOptions(strict=True)),
            {"x": operands()[seat.id.rank]},
        )
        for seat in team.seats.values()
    ]
    evaluated = op.evaluate(EvalContext(NUMPY, types=(x.type,)), *operands())
    for executed, expected in zip(team.run(works), evaluated, strict=True):
        np.testing.assert_array_equal(executed["y"], expected)


def test_all_to_all_gives_each_rank_its_parts_of_all() -> None:
    op = AllToAll(2, axis=1, split=0)
    given = np.array([[1], [2]], np.float32), np.array([[3], [4]], np.float32)
    found = op.evaluate(EvalContext(NUMPY), *given)
    assert [f.tolist() for f in found] == [[[1, 3]], [[2, 4]]]


def test_a_rank_that_no_pair_names_as_target_gets_zeros() -> None:
    op = CollectivePermute(2, ((0, 1),))
    given = np.array([5], np.float32), np.array([6], np.float32)
    found = op.evaluate(EvalContext(NUMPY, types=(TensorType((1,), float32),)), *given)
    assert [f.tolist() for f in found] == [[0], [5]]


def test_a_rank_cannot_be_the_target_of_two() -> None:
    with pytest.raises(UsageError, match="different ranks"):
        CollectivePermute(3, ((0, 1), (2, 1))).infer(TensorType((2,), float32))
