"""Products of groups of rows, each with a matrix of its own (the experts of a mixture)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.ops.arguments import (
    require,
    require_float,
    require_integer,
    require_operands,
    require_shape,
)
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import OutOfBoundsError
from emuron.numerics.dtypes import float32, int32


@op("grouped_matmul")
@dataclass(frozen=True, slots=True)
class GroupedMatMul(Op):
    """y[t] = x[t] · weight[e] where ends[e − 1] <= t < ends[e]; rows from the last end on are 0.

    x is [T, K], weight [E, K, N], ends [E] int32, each the end of a group's rows, none before the
    one before it. Rounding and order of additions are those of `linear`.
    """

    contracts: ClassVar[tuple[int, ...]] = (0, 1)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return [T, N] in x's dtype."""
        require_operands(types, "x", "weight", "ends")
        x, weight, ends = types
        require_float(x, "x")
        require_float(weight, "weight")
        require_integer(ends, "ends")
        require(
            x.rank == 2 and weight.rank == 3 and weight.shape[1] == x.shape[1],
            f"x ({x}) must be [T, K] and weight ({weight}) [E, K, N]",
        )
        require_shape(ends, (weight.shape[0],), "ends")
        return (x.with_shape(x.shape[0], weight.shape[2]),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the products group by group."""
        b = ev.backend
        x, weight, ends = arrays
        found = [0, *(int(e) for e in np.asarray(b.numpy(ends)).ravel())]
        if found != sorted(found) or found[-1] > x.shape[0]:
            raise OutOfBoundsError(
                f"grouped_matmul: ends {found[1:]} must not fall and not exceed {x.shape[0]} rows"
            )
        y = b.zeros((x.shape[0], weight.shape[2]), float32)
        for expert, (start, end) in enumerate(pairwise(found)):
            if end > start:
                y[start:end] = b.matmul_chunked(x[start:end], weight[expert])
        return (y,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return groups that leave rows over, one of which may be empty."""

        def types(x: tuple[int, int], experts: int, n: int, dtype: str) -> tuple[TensorType, ...]:
            rows = TensorType(x, float32).with_dtype(dtype)
            return (rows, rows.with_shape(experts, x[1], n), TensorType((experts,), int32))

        return (
            Example(cls(), types((7, 40), 1, 12, "float32"), ((-2, 2), (-2, 2), (2, 7))),
            Example(cls(), types((150, 200), 1, 24, "bfloat16"), ((-2, 2), (-2, 2), (4, 140))),
        )
