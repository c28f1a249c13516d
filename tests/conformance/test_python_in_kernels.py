"""Python that kernels use freely: classes, closures, containers, decorators, kernels in kernels."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import logging
import math
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

log = logging.getLogger("kernels")


class Act(enum.Enum):
    SILU = "silu"
    COPY = "copy"


@dataclass(frozen=True)
class Shape(nl.NKIObject):
    rows: int
    cols: int
    kind: Act = Act.COPY

    @property
    def size(self) -> int:
        return self.rows * self.cols

    def with_rows(self, rows: int) -> Shape:
        return dataclasses.replace(self, rows=rows)


@dataclass
class Buffers(nl.NKIObject):
    shape: Shape
    tiles: dict[str, nl.ndarray] = field(default_factory=dict)
    spare: Optional[nl.ndarray] = None  # noqa: UP045  (as kernels write it)

    def __post_init__(self):
        self.count = 0

    def make(self, name: str, dtype=nl.float32) -> nl.ndarray:
        self.count += 1
        tile = nl.ndarray((self.shape.rows, self.shape.cols), dtype, name=f"{name}_{self.count}")
        self.tiles[name] = tile
        return tile


class Annotated(nl.NKIObject):
    x: nl.ndarray | tuple[nl.ndarray, ...]
    scale: float
    bias: Optional[nl.ndarray] = None  # noqa: UP045


class Pair(NamedTuple):
    first: nl.ndarray
    second: nl.ndarray | None


def logged(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        log.debug("enter %s with %s", function.__name__, [getattr(a, "shape", a) for a in args])
        return function(*args, **kwargs)

    return call


@logged
@nki.jit(mode="trace")
def square_into(dst: nl.ndarray, src: nl.ndarray) -> None:
    """A sub-kernel that is decorated, and called from other kernels."""
    nisa.activation(dst=dst, op=nl.square, data=src)


def scaled_by(buffers: Buffers, by: float):
    """Return a function that scales a tile, with a tile of its own."""

    def apply(data: nl.ndarray) -> nl.ndarray:
        made = buffers.make(f"scaled_{by:.1f}")
        nisa.tensor_scalar(made, data, op0=nl.multiply, operand0=by)
        return made

    return apply


def add_through_copies(tile, buffers: Buffers, alpha: float) -> Annotated:
    """Add one by way of a deep copy: copies of what holds tensors stand for the same memory."""
    held = Annotated(tile, alpha)
    assert held.bias is None
    assert f"{held.x.name}".startswith("pair_")
    again = copy.deepcopy(held)
    shallow = copy.copy(buffers)
    nisa.tensor_scalar(again.x, again.x, nl.add, 1.0)
    assert shallow.tiles["pair"] is tile
    return held


def check_arguments(x, config: Shape, extras: dict) -> None:
    assert isinstance(x, nl.ndarray), f"x is {type(x)}"
    assert isinstance(extras["w"], nl.NkiTensor)
    assert x.shape == (config.rows, config.cols), f"{x.name}: {x.shape} is not {config}"
    wide = copy.deepcopy(config).with_rows(rows=config.rows)
    assert wide == config
    assert {config: 1}[wide] == 1


@nki.jit(mode="auto", debug_kernel=True, show_compiler_tb=True, experimental_flags="none")
def everything(
    x: nl.ndarray,
    config: Shape,
    extras: dict,
    bias: Optional[nl.ndarray] = None,  # noqa: UP045
    act: Act = Act.SILU,
    *unused,
    alpha: float = 1.0,
) -> tuple[nl.ndarray, ...]:
    check_arguments(x, config, extras)
    buffers = Buffers(config)
    tile = buffers.make("x", x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    weights = buffers.make(name="w")
    nisa.dma_copy(dst=weights, src=extras["w"])
    steps = [scaled_by(buffers, by) for by in (2.0, 0.5, alpha)]
    data = functools.reduce(lambda value, step: step(value), steps, tile)
    names = sorted(name for name in buffers.tiles if name.startswith("scaled"))
    assert len(names) == len({2.0, 0.5, alpha})
    table = {Act.SILU: nl.silu, Act.COPY: nl.copy}
    nisa.activation(dst=data, op=table[act], data=data)
    pair = Pair(first=buffers.make("pair"), second=None)
    square_into(pair.first, data)
    nisa.tensor_tensor(pair.first, pair.first, weights, op=nl.multiply)
    if bias is not None:
        row = nl.ndarray((config.rows, 1), bias.dtype)
        nisa.dma_copy(row, bias)
        nisa.tensor_scalar(pair.first, pair.first, nl.add, row)
    held = add_through_copies(pair.first, buffers, alpha)
    out = nl.ndarray((config.rows, config.cols), nl.float32, buffer=nl.shared_hbm, name="out")
    try:
        nisa.dma_copy(dst=out, src=held.x)
    finally:
        log.info("%s made %d tiles of %s", out.name, buffers.count, config.size * 4)
    rows = math.ceil(math.log2(config.rows))
    match rows:
        case 2:
            return out, x
        case _:
            return (out, x, None)


SIZES = [(4, 6), (8, 5)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_kernel_may_use_all_of_python(both_ways, shape, with_bias):
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(shape).astype(np.float32) for _ in range(2))
    bias = random.standard_normal((shape[0], 1)).astype(np.float32) if with_bias else None
    got = both_ways(everything, x, Shape(*shape), {"w": w, "unused": [1, "two"]}, bias)
    assert len(got) == (2 if shape[0] == 4 else 3)
    silu = x / (1 + np.exp(-x))
    wanted = silu * silu * w + 1 + (bias if with_bias else 0)
    np.testing.assert_allclose(got[0], wanted, rtol=2e-5, atol=1e-5)
    assert np.array_equal(got[1], x)


def recursive_sum(parts, out):
    """Recursion over a list of arguments, generators, comprehensions, walrus, star-arguments."""

    def tree(tiles):
        if len(tiles) == 1:
            return tiles[0]
        *left, right = tiles
        both = nl.ndarray(right.shape, right.dtype)
        nisa.tensor_tensor(both, tree(left), right, nl.add)
        return both

    def loaded():
        for part in parts:
            tile = nl.ndarray(part.shape, part.dtype)
            nisa.dma_copy(tile, part)
            yield tile

    if (count := len(tiles := list(loaded()))) > 1:
        assert count == len(parts)
    arguments = {"dst": out, "src": tree(tiles)}
    nisa.dma_copy(**arguments)


def test_lists_of_tensors_and_an_output_argument(both_ways):
    parts = [np.full((2, 3), float(2**i), np.float32) for i in range(4)]
    out = np.zeros((2, 3), np.float32)
    assert both_ways(recursive_sum, parts, out) is None
    assert (out == 15).all()


class Model:
    """A kernel as a method, one as a class attribute, one as a partial function."""

    scale = 3.0

    @nki.jit
    def method(self, x):
        return times(x, self.scale)


def times(x, by):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(tile, x)
    nisa.tensor_scalar(tile, tile, nl.multiply, by)
    nisa.dma_copy(out, tile)
    return out


def test_kernels_are_methods_partials_and_lambdas():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(nki.simulate(Model().method)(x), 3 * x)
    assert np.array_equal(nki.simulate(functools.partial(times, by=2.0))(x), 2 * x)
    assert np.array_equal(nki.simulate(lambda x: times(x, 4.0))(x), 4 * x)


def forwards(x):
    """A kernel that calls a launched kernel's function and hands its output on in HBM."""
    doubled = nki.jit(times)(x, 2.0)
    assert doubled.buffer == nl.shared_hbm
    assert "hbm" in str(doubled.buffer)
    return {"doubled": doubled, "again": [times(doubled, 0.25)]}


def test_kernels_call_kernels_and_return_dicts(both_ways):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = both_ways(forwards, x)
    assert np.array_equal(got["doubled"], 2 * x)
    assert np.array_equal(got["again"][0], x / 2)


def raising(x, limit: int):
    if x.shape[0] > limit:
        raise ValueError(f"{x.name} has {x.shape[0]} rows of {x.dtype}; the limit is {limit}")
    assert x.shape[1] % 2 == 0, f"odd width {x.shape[1]}"
    return times(x, 1.0)


def test_a_kernels_own_exceptions_come_through():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="x has 4 rows of float32; the limit is 2"):
        nki.simulate(raising)(x, 2)
    with pytest.raises(AssertionError, match="odd width 3"):
        nki.simulate(raising)(x, 8)


def by_dtype(x):
    """Dtypes as strings, keys, attributes by name; memories compared; NumPy dtypes given."""
    sizes = {nl.float32: 4, nl.bfloat16: 2, nl.uint8: 1}
    name = str(x.dtype).split(".")[-1]
    assert getattr(nl, name) == x.dtype
    assert "x4" not in str(x.dtype)
    assert x.dtype in (nl.float32, nl.bfloat16)
    other = nl.bfloat16 if sizes[x.dtype] == 4 else np.float32
    tile = nl.ndarray(x.shape, dtype=other, buffer=nl.sbuf)
    nisa.dma_copy(tile, x)
    assert tile.buffer == nl.sbuf != nl.psum
    out = nl.ndarray(x.shape, other, nl.shared_hbm)
    nisa.dma_copy(out, tile)
    return out


@pytest.mark.parametrize("dtype", [np.float32, "bfloat16"])
def test_dtypes_are_names(both_ways, dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    got = both_ways(by_dtype, x)
    assert got.dtype != x.dtype
    assert got.astype(np.float64).tolist() == x.astype(np.float64).tolist()
