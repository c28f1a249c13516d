"""Normalisations of [N, C, *spatial] with channels on partitions: one scale and shift a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from emuron.compiler.kernels import movement
from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.images import channel_columns, channel_rows, landing
from emuron.compiler.kernels.windows import PARTITIONS
from emuron.isa.affine import Index
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32

_COLUMNS = 4096  # elements of a channel that are read at once

Columns = Callable[[int], NkiTensor]
"""[channels of a block, images] of a block of channels."""


@dataclass(frozen=True, slots=True, eq=False)
class Normed:
    """What is normalised: x and where it goes, its channels' weight and bias, and a function."""

    x: Placed
    out: Placed
    weight: Placed | None
    bias: Placed | None
    activation: str | None = None

    @property
    def images(self) -> int:
        """Number of images."""
        return self.x.shape[0]

    @property
    def pixels(self) -> int:
        """Elements of a channel of one image."""
        return prod(self.x.shape[2:])

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(first, count) of the channels of each block of partitions."""
        channels = self.x.shape[1]
        starts = range(0, channels, PARTITIONS)
        return [(start, min(PARTITIONS, channels - start)) for start in starts]


def batch_norm(
    k: KernelContext, normed: Normed, mean: Placed, variance: Placed, epsilon: float
) -> None:
    """Write x·a + s with a = rsqrt(variance + epsilon)·weight and s = bias − mean·a."""
    given = (mean, variance, normed.weight, normed.bias)
    means, variances, weights, biases = (channel_columns(k, v) for v in given if v is not None)
    blocks = normed.blocks
    shape = (PARTITIONS, len(blocks), 1)
    scale, shift = (k.sbuf(shape, float32, name) for name in ("scale", "shift"))
    for block, (_, count) in enumerate(blocks):
        at = (slice(0, count), block)
        eps = k.filled(epsilon, 1)[:count]
        nisa.activation(scale[at], "rsqrt", variances[at], bias=eps)
        nisa.tensor_tensor(scale[at], scale[at], weights[at], "multiply")
        _shift(shift[at], means[at], scale[at], biases[at])
    _apply(k, normed, scale, shift)


def group_norm(
    k: KernelContext, normed: Normed, same: np.ndarray, epsilon: float, chunk: int
) -> None:
    """Write x·a + s with the moments of groups; `same` [C, groups] is 1 where a channel belongs."""
    blocks, images = normed.blocks, normed.images
    shape = (PARTITIONS, len(blocks), images)
    names = ("mean", "variance", "middle", "scale", "shift")
    mean, variance, middle, scale, shift = (k.sbuf(shape, float32, name) for name in names)
    for block in range(len(blocks)):
        for image in range(images):
            _moments(k, normed, (block, image), (mean, variance), chunk)
    groups = _Groups(k, normed, same)
    groups.average(middle, mean)
    for block, (_, count) in enumerate(blocks):
        at = (slice(0, count), block)
        away = k.sbuf((count, images), float32, "away")
        nisa.tensor_tensor(away, mean[at], middle[at], "subtract")
        nisa.tensor_tensor(away, away, away, "multiply")
        nisa.tensor_tensor(variance[at], away, variance[at], "add")
    groups.average(scale, variance)
    weights, biases = (
        None if v is None else channel_columns(k, v) for v in (normed.weight, normed.bias)
    )
    for block, (_, count) in enumerate(blocks):
        at = (slice(0, count), block)
        nisa.activation(scale[at], "rsqrt", scale[at], bias=k.filled(epsilon, 1)[:count])
        if weights is not None:
            nisa.tensor_scalar(scale[at], scale[at], "multiply", weights[at])
        _shift(shift[at], middle[at], scale[at], None if biases is None else biases[at])
    _apply(k, normed, scale, shift)


def _shift(target: NkiTensor, mean: NkiTensor, scale: NkiTensor, bias: NkiTensor | None) -> None:
    """Write bias − mean·scale."""
    nisa.tensor_tensor(target, mean, scale, "multiply")
    if bias is None:
        nisa.tensor_scalar(target, target, "multiply", -1.0)
    else:
        nisa.tensor_scalar(target, target, "multiply", -1.0, False, "add", bias)


def _pieces(normed: Normed, image: int, unit: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of an image's elements as columns of [C, N·spatial], by whole units."""
    most = max(1, _COLUMNS // unit) * unit
    begin, pixels = image * normed.pixels, normed.pixels
    for start in range(0, pixels, most):
        yield begin + start, min(most, pixels - start)


def _moments(
    k: KernelContext,
    normed: Normed,
    place: tuple[int, int],
    targets: tuple[NkiTensor, NkiTensor],
    chunk: int,
) -> None:
    """Write mean and variance of the channels of one block of one image."""
    block, image = place
    first, count = normed.blocks[block]
    rows = channel_rows(normed.x)
    parts = k.sbuf((count, -(-normed.pixels // chunk), 6), float32, "stats")
    number = 0
    for begin, width in _pieces(normed, image, chunk):
        tile = _flat(k.read(rows, (first, count), (begin, width)))
        for start in range(0, width, chunk):
            nisa.bn_stats(parts[:, number], tile[:, start : min(width, start + chunk)])
            number += 1
    both = k.sbuf((count, 2), float32, "moments")
    nisa.bn_aggr(both, parts)
    for target, column in zip(targets, (0, 1), strict=True):
        written = target[:count, block, image : image + 1]
        nisa.tensor_copy(written, both[:, column : column + 1], engine="vector")


def _flat(tile: NkiTensor) -> NkiTensor:
    return tile if tile.ndim == 2 else tile.reshape((tile.shape[0], prod(tile.shape[1:])))


class _Groups:
    """Averages columns of channels over groups: sums to groups, then back to their channels."""

    def __init__(self, k: KernelContext, normed: Normed, same: np.ndarray) -> None:
        self.k = k
        self.normed = normed
        self.count = same.shape[1]
        self.size = same.shape[0] // same.shape[1]
        if self.size > 1:
            self.to_groups = self._loaded(same, "to_groups")
            self.to_channels = self._loaded(np.ascontiguousarray(same.T), "to_channels")

    def _loaded(self, matrix: np.ndarray, name: str) -> NkiTensor:
        """Return a constant [rows, columns] as [128, blocks of rows, columns]."""
        rows, columns = matrix.shape
        key = (name, matrix.shape)

        def make() -> NkiTensor:
            home = self.k.constant(matrix, float32, name)
            tile = self.k.sbuf((min(PARTITIONS, rows), -(-rows // PARTITIONS), columns), float32)
            for start in range(0, rows, PARTITIONS):
                count = min(PARTITIONS, rows - start)
                source = home.pattern((start, count), (0, columns))
                nisa.dma_copy(tile[:count, start // PARTITIONS], source)
            return tile

        return self.k.kept(key, make)

    def average(self, target: NkiTensor, source: NkiTensor) -> None:
        """Write the average over each group, at each of its channels; both [128, blocks, N]."""
        blocks, images = self.normed.blocks, self.normed.images
        if self.size == 1:
            for block, (_, count) in enumerate(blocks):
                at = (slice(0, count), block)
                nisa.tensor_copy(target[at], source[at], engine="vector")
            return
        k = self.k
        starts = range(0, self.count, PARTITIONS)
        averages = []
        for start in starts:
            groups = min(PARTITIONS, self.count - start)
            sums = k.psum((groups, images), float32)
            for block, (_, count) in enumerate(blocks):
                stationary = self.to_groups[:count, block, start : start + groups]
                moving = source[:count, block]
                nisa.nc_matmul(sums, stationary, moving, accumulate=block > 0)
            made = k.sbuf((groups, images), float32, "averages")
            nisa.tensor_scalar(made, sums, "multiply", 1.0 / self.size)
            averages.append(made)
        for block, (first, count) in enumerate(blocks):
            back = k.psum((count, images), float32)
            for number, made in enumerate(averages):
                stationary = self.to_channels[: made.shape[0], number, first : first + count]
                nisa.nc_matmul(back, stationary, made, accumulate=number > 0)
            k.evict(target[:count, block], back)


def _apply(k: KernelContext, normed: Normed, scale: NkiTensor, shift: NkiTensor) -> None:
    """Write function(x·scale + shift), columns [128, blocks, N or 1]."""
    home = landing(k, normed.out)
    rows, target = channel_rows(normed.x), channel_rows(home)
    for block, (first, count) in enumerate(normed.blocks):
        for image in range(normed.images):
            at = image if scale.shape[2] > 1 else 0
            a, s = (t[:count, block, at : at + 1] for t in (scale, shift))
            for columns in _pieces(normed, image, 1):
                part: tuple[Index, int] = (first, count)
                tile = _flat(k.read(rows, part, columns))
                written = k.target(target, part, columns)
                function = normed.activation or "identity"
                nisa.activation(_flat(written), function, tile, bias=s, scale=a)
                k.finish(written, target, part, columns)
    if home is not normed.out:
        movement.move(k, home, normed.out)
