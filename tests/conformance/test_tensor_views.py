"""A library's own view class over `.ap`: slices, splits, dtypes and run-time offsets composed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass
class View(nl.NKIObject):
    """A strided view that composes in Python, and ends in one `.ap` of its whole tensor."""

    base: nl.ndarray
    sizes: tuple
    steps: tuple
    start: int = 0
    dynamic: tuple | None = None  # (keyword, index, dimension of base)
    kind: str | None = None

    @staticmethod
    def of(tensor):
        steps = [math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape))]
        return View(tensor, tuple(tensor.shape), tuple(steps))

    def _with(self, dim, size, step, start=0):
        sizes = (*self.sizes[:dim], *size, *self.sizes[dim + 1 :])
        steps = (*self.steps[:dim], *step, *self.steps[dim + 1 :])
        return View(self.base, sizes, steps, self.start + start, self.dynamic, self.kind)

    def slice(self, dim, start, end, step=1):
        count = -(-(end - start) // step)
        return self._with(dim, (count,), (self.steps[dim] * step,), start * self.steps[dim])

    def select(self, dim, index):
        if isinstance(index, int):
            return self._with(dim, (), (), index * self.steps[dim])
        made = self._with(dim, (), ())
        made.dynamic = ("scalar_offset", index, dim)
        return made

    def rows(self, index):
        made = self._with(0, (index.shape[0],), (self.steps[0],))
        made.dynamic = ("vector_offset", index, 0)
        return made

    def split(self, dim, *sizes):
        steps = [self.steps[dim] * math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
        return self._with(dim, sizes, steps)

    def expand(self, dim):
        made = View(self.base, self.sizes, self.steps, self.start, self.dynamic, self.kind)
        made.sizes = (*self.sizes[:dim], 1, *self.sizes[dim:])
        made.steps = (*self.steps[:dim], 0, *self.steps[dim:])
        return made

    def broadcast(self, dim, size):
        assert self.sizes[dim] == 1
        return self._with(dim, (size,), (0,))

    def permute(self, *order):
        sizes, steps = ([given[d] for d in order] for given in (self.sizes, self.steps))
        return View(self.base, tuple(sizes), tuple(steps), self.start, self.dynamic, self.kind)

    def get(self):
        keywords = {}
        if self.dynamic is not None:
            name, index, dim = self.dynamic
            keywords = {name: index, "indirect_dim": dim}
        if self.kind is not None:
            keywords["dtype"] = self.kind
        pattern = [[step, size] for step, size in zip(self.steps, self.sizes, strict=True)]
        return self.base.ap(pattern=pattern, offset=self.start, **keywords)


def composed(x, index, rows):
    """HBM views: a permuted split, a broadcast row, a selected plane, gathered rows of it."""
    planes, height, width = x.shape
    which = nl.ndarray((1, 1), nl.int32)
    nisa.dma_copy(which, index)
    chosen = nl.ndarray(rows.shape, nl.uint32)
    nisa.dma_copy(chosen, rows)
    outs = []

    def keep(view):
        free = math.prod(view.sizes[1:])
        tile = nl.ndarray((view.sizes[0], free), x.dtype)
        shaped = tile.reshape(view.sizes) if len(view.sizes) > 2 else tile
        nisa.dma_copy(dst=shaped, src=view.get())
        out = nl.ndarray(tile.shape, x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(out, tile)
        outs.append(out)

    base = View.of(x)
    keep(base.permute(1, 0, 2).split(2, 2, width // 2).permute(0, 3, 1, 2))
    keep(base.select(0, 1).slice(0, 2, 3).expand(1).broadcast(1, 3))
    keep(base.select(0, which).slice(0, 1, height, 2))
    keep(View.of(x.reshape((planes * height, width))).rows(chosen).slice(1, 1, width - 1))
    keep(View.of(x.reshape((planes * height, width))).rows(chosen).split(1, 2, width // 2)
         .permute(0, 2, 1))  # fmt: skip
    return outs


@pytest.mark.parametrize("dtype", [np.float32, "bfloat16", np.uint8])
def test_views_of_hbm_compose(both_ways, dtype):
    x = np.arange(3 * 6 * 8).reshape(3, 6, 8).astype(dtype)
    rows = np.array([[17], [0], [9], [4]], np.uint32)
    got = both_ways(composed, x, np.array([[2]], np.int32), rows)
    wanted = [
        np.einsum("phab->hbpa", x.reshape(3, 6, 2, 4)).reshape(6, -1),
        np.stack([np.stack([x[1, 2]] * 3)]).reshape(1, -1),
        np.stack([x[2, i] for i in (1, 3, 5)]),
        np.stack([x[r // 6, r % 6, 1:7] for r in rows[:, 0]]),
        np.stack([x[r // 6, r % 6].reshape(2, 4).T.ravel() for r in rows[:, 0]]),
    ]
    for have, want in zip(got, wanted, strict=True):
        assert have.tolist() == want.tolist()


def interleaved(view):
    """The halves of a tile's columns at the even and odd columns of another."""
    rows, width = view.sizes
    swapped = nl.ndarray((rows, width), nl.float32)
    half = width // 2
    nisa.tensor_copy(View.of(swapped).slice(1, 0, width, 2).get(), view.slice(1, 0, half).get())
    nisa.tensor_copy(View.of(swapped).slice(1, 1, width, 2).get(), view.slice(1, half, width).get())
    return swapped


def outer_product(view):
    """Each column of the first half times the first four of the second, by broadcasts."""
    rows, half = view.sizes[0], view.sizes[1] // 2
    outer = nl.ndarray((rows, half, 4), nl.float32)
    nisa.tensor_tensor(
        outer,
        view.slice(1, 0, half).expand(2).broadcast(2, 4).get(),
        view.slice(1, half, half + 4).expand(1).broadcast(1, half).get(),
        nl.multiply,
    )
    return outer.reshape((rows, half * 4))


def reversed_columns(tile):
    rows, width = tile.shape
    made = nl.ndarray((rows, width), nl.float32)
    for j in range(width):
        nisa.tensor_copy(made[:, j : j + 1], tile[:, width - 1 - j])
    return made


def on_chip(x, index):
    """SBUF views as operands of compute: strides, broadcasts, other dtypes, run-time places."""
    rows, width = x.shape
    tile = nl.ndarray((rows, width), nl.float32)
    nisa.dma_copy(tile, x)
    at = nl.ndarray((1, 1), nl.uint32)
    nisa.dma_copy(at, index)
    view = View.of(tile)
    outs = []

    def keep(made):
        out = nl.ndarray(made.shape, made.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(out, made)
        outs.append(out)

    keep(interleaved(view))
    keep(outer_product(view))
    bytes_of = nl.ndarray((rows, width), nl.uint16)  # the upper halves of the floats
    words = View(tile, (rows, width), (2 * width, 2), 1, None, nl.uint16)
    nisa.tensor_copy(bytes_of, words.get())
    keep(bytes_of)
    picked = nl.ndarray((rows, 3), nl.float32)
    moved = View(tile, (rows, 3), (width, 1), 1, ("scalar_offset", at, 1))
    nisa.tensor_copy(picked, moved.get())
    keep(picked)
    back = nl.zeros((rows, width), nl.float32)
    nisa.activation(
        View(back, (rows, 2), (width, 1), 0, ("scalar_offset", at, 1)).get(),
        op=nl.square, data=picked[:, 0:2],
    )  # fmt: skip
    keep(back)
    lower = nl.ndarray((2, width), nl.float32)  # a start partition through the offset alone
    nisa.tensor_copy(lower, tile.ap(pattern=[[width, 2], [1, width]], offset=32 * width))
    keep(lower)
    keep(reversed_columns(tile))
    return tuple(outs)


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_views_on_chip_are_operands(both_ways, on):
    x = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    got = both_ways(on_chip, x, np.array([[5]], np.uint32), on=on)
    squares = np.zeros_like(x)
    squares[:, 5:7] = x[:, 6:8] * x[:, 6:8]
    wanted = [
        np.stack([x[:, :6], x[:, 6:]], 2).reshape(40, 12),
        np.einsum("pa,pb->pab", x[:, :6], x[:, 6:10]).reshape(40, 24),
        x.view(np.uint16)[:, 1::2],
        x[:, 6:9],
        squares,
        x[32:34],
        x[:, ::-1],
    ]
    for have, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-6)


def native(x):
    """The views of 0.5 on tensors themselves, chained, as operands of transfers and compute."""
    rows, width = x.shape
    tile = nl.ndarray((rows, width), x.dtype)
    nisa.dma_copy(tile, x)
    a, b = 3, width // 3
    turned = tile.reshape_dim(1, (a, b)).permute((0, 2, 1))
    copied = nl.ndarray((rows, b, a), x.dtype)
    nisa.tensor_copy(copied, turned)
    named = tile.rearrange(("p", ("a", "b")), ("p", "b", "a"), {"a": a})
    total = nl.ndarray((rows, b, a), x.dtype)
    nisa.tensor_tensor(total, copied, named, nl.add)
    wide = tile.slice(1, 0, 1).expand_dim(1).broadcast(1, b).broadcast(2, a)
    nisa.tensor_tensor(total, total, wide, nl.subtract)
    out = nl.ndarray((rows, width), x.dtype, nl.shared_hbm)
    nisa.dma_copy(out.reshape((rows, b, a)), total.flatten_dims(1, 2).reshape((rows, b, a)))
    first = nl.ndarray((1, width), x.dtype, nl.shared_hbm)
    nisa.dma_copy(first.squeeze_dim(0), x.select(0, rows - 1))
    return out, first


def test_native_views_chain(both_ways):
    x = np.arange(60, dtype=np.float32).reshape(5, 12)
    out, first = both_ways(native, x)
    turned = x.reshape(5, 3, 4).transpose(0, 2, 1)
    assert out.tolist() == (2 * turned - x[:, :1, None]).reshape(5, 12).tolist()
    assert first.tolist() == [x[4].tolist()]
