"""Runs one operator alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Op, TensorType
from emuron.compiler.ops import Autocast, Example, GraphBuilder
from emuron.numerics.rounding import round_to

Draw = Callable[[Example], list[np.ndarray]]
RunOp = Callable[..., list[np.ndarray]]


@pytest.fixture
def draw() -> Draw:
    """Draw stored inputs for an example, the same every time."""

    def drawn(example: Example) -> list[np.ndarray]:
        rng = np.random.default_rng(len(repr(example)))
        ranges = example.ranges or ((-2.0, 2.0),) * len(example.types)
        ranges += ((-2.0, 2.0),) * (len(example.types) - len(ranges))
        arrays = []
        for type, (low, high) in zip(example.types, ranges, strict=True):
            if type.dtype.kind == "float":
                real = rng.uniform(low, high, type.shape).astype(np.float32)
                arrays.append(round_to(real, type.dtype))
            else:
                low, high = (0, 1) if type.dtype.kind == "bool" else (low, high)
                whole = rng.integers(int(low), int(high), type.shape, endpoint=True)
                arrays.append(np.asarray(whole, type.dtype.np))
        return arrays

    return drawn


@pytest.fixture
def run_op() -> RunOp:
    """Evaluate one op on stored arrays."""

    def run(
        op: Op,
        types: tuple[TensorType, ...],
        arrays: list[np.ndarray],
        backend: str = "numpy",
        autocast: Autocast | None = None,
    ) -> list[np.ndarray]:
        b = GraphBuilder("one_op")
        values = [b.input(f"x{i}", t) for i, t in enumerate(types)]
        for i, value in enumerate(b.append(op, *values)):
            b.output(f"y{i}", value)
        evaluator = Evaluator(b.finish(), backend, autocast or Autocast())
        outputs = evaluator.run({f"x{i}": a for i, a in enumerate(arrays)})
        return list(outputs.values())

    return run
