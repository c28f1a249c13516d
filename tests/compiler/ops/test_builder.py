"""What the builder makes of one call: several operators, or none."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import TensorType
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UsageError
from emuron.numerics.dtypes import float32, int32, uint32

EQUATIONS = (
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhid,bhjd->bhij", (2, 2, 3, 4), (2, 2, 5, 4)),
    ("...d,de->...e", (2, 3, 4), (4, 5)),
    ("i,j->ij", (3,), (4,)),
    ("ij,ij->", (3, 4), (3, 4)),
    ("ij->ji", (3, 4)),
    ("ijk->k", (3, 4, 2)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ij,jk", (3, 4), (4, 5)),
    ("b...i,bi->b...", (2, 3, 4), (2, 4)),
    ("bi,ci->cb", (2, 3), (4, 3)),
    ("ab,cb->ac", (3, 1), (2, 4)),
)


def run(make, *arrays: np.ndarray) -> np.ndarray:
    b = GraphBuilder("built")
    values = [
        b.input(f"x{i}", TensorType(a.shape, float32 if a.dtype == np.float32 else int32))
        for i, a in enumerate(arrays)
    ]
    b.output("y", make(b, *values))
    return Evaluator(b.finish()).run({f"x{i}": a for i, a in enumerate(arrays)})["y"]


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda case: case[0])
def test_einsum_equals_numpys(case) -> None:
    equation, *shapes = case
    rng = np.random.default_rng(2)
    arrays = [rng.integers(-3, 4, shape).astype(np.float32) for shape in shapes]
    found = run(lambda b, *values: b.einsum(equation, *values), *arrays)
    np.testing.assert_array_equal(found, np.einsum(equation, *arrays))


def test_einsum_refuses_a_diagonal() -> None:
    with pytest.raises(UsageError, match="a letter twice"):
        run(lambda b, x: b.einsum("ii->i", x), np.ones((3, 3), np.float32))


@pytest.mark.parametrize("combiner", ["set", "add"])
def test_scatter_along_writes_element_by_element(combiner: str) -> None:
    x = np.zeros((3, 4), np.float32)
    update = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    index = np.array([[0, 2], [3, 3], [1, 0]], np.int32)
    found = run(lambda b, *v: b.scatter_along(*v, axis=1, combiner=combiner), x, update, index)
    expected = x.copy()
    for row, column in np.ndindex(3, 2):
        target = row, index[row, column]
        kept = expected[target] if combiner == "add" else 0
        expected[target] = kept + update[row, column]
    np.testing.assert_array_equal(found, expected)


def test_gather_along_takes_an_index_with_fewer_rows() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    index = np.array([[3, 0, 1], [2, 2, 2]], np.int32)
    found = run(lambda b, x, i: b.gather_along(x, i, 1), x, index)
    np.testing.assert_array_equal(found, [[3, 0, 1], [6, 6, 6]])


def test_softmax_over_another_dimension() -> None:
    x = np.log(np.array([[1, 2], [3, 6]], np.float32))
    found = run(lambda b, x: b.softmax(x, axis=0), x)
    np.testing.assert_allclose(found, [[0.25, 0.25], [0.75, 0.75]], rtol=2**-20)


@pytest.mark.jax
@pytest.mark.parametrize("to", ["uint8", "uint16", "uint32"])
def test_rng_bits_are_those_of_jax(to: str) -> None:
    jax = pytest.importorskip("jax")
    key = jax.random.key(42)
    b = GraphBuilder("random")
    b.output("y", b.rng_bits(b.input("key", TensorType((2,), uint32)), (3, 7), to=to))
    found = Evaluator(b.finish()).run({"key": np.asarray(jax.random.key_data(key))})["y"]
    np.testing.assert_array_equal(found, np.asarray(jax.random.bits(key, (3, 7), to)))
