"""How one dimension of a value lies over ranks, and which heads of attention go to which rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from emuron.compiler.graph import TensorType, Value

PADDING = -1
"""A unit that stands for nothing: zeros, so that all ranks have equally many."""


@dataclass(frozen=True)
class Split:
    """Dimension `dim`, of `size` elements in units of `unit`, laid over ranks.

    Rank r holds the units `parts[r]` in this order; PADDING, and what lies beyond `size`, is zero.
    A unit may lie on several ranks (replicated key heads).
    """

    dim: int
    size: int
    unit: int
    parts: tuple[tuple[int, ...], ...]

    @classmethod
    def even(cls, dim: int, size: int, ranks: int) -> Split:
        """Return consecutive runs of equal length, the last one padded."""
        return cls(dim, size, -(-size // ranks), tuple((rank,) for rank in range(ranks)))

    @property
    def local(self) -> int:
        """Elements on each rank, padding included."""
        return len(self.parts[0]) * self.unit

    @property
    def is_consecutive(self) -> bool:
        """Whether the ranks' parts, one after another, begin with the whole dimension in order."""
        found = [unit for part in self.parts for unit in part]
        return found == list(range(len(found)))

    def at(self, dim: int, size: int | None = None, unit: int | None = None) -> Split:
        """Return the same parts of another dimension."""
        return Split(
            dim,
            self.size if size is None else size,
            self.unit if unit is None else unit,
            self.parts,
        )

    def reshaped(self, old: tuple[int, ...], new: tuple[int, ...]) -> Split | None:
        """Return the split after a reshape that cuts the dimension into units or merges into it.

        None where no dimension of the new shape holds the same elements.
        """
        before, held = prod(old[: self.dim]), prod(old[self.dim + 1 :])
        fitting = []
        for dim, size in enumerate(new):
            inner = prod(new[dim + 1 :])
            same = prod(new[:dim]) == before and size * inner == self.size * held
            if same and self.unit * held % inner == 0:
                fitting.append(self.at(dim, size, self.unit * held // inner))
        # Beside dimensions of size 1 several may be meant: the same one, else one that has size.
        fitting.sort(key=lambda s: (s.dim != self.dim, s.size == 1))
        return fitting[0] if fitting else None

    def places(self, rank: int) -> np.ndarray:
        """Return the element of the whole at each place of a rank, -1 for padding."""
        units = np.array(self.parts[rank], np.int64)[:, None]
        found = np.where(units == PADDING, PADDING, units * self.unit + np.arange(self.unit))
        found = found.reshape(-1)
        return np.where(found < self.size, found, PADDING)

    def take(self, whole: np.ndarray, rank: int) -> np.ndarray:
        """Return a rank's part of an array, padded with zeros."""
        places = self.places(rank)
        before = (slice(None),) * self.dim
        part: np.ndarray = np.take(whole, np.maximum(places, 0), axis=self.dim)
        part[(*before, places == PADDING)] = 0
        return part

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the whole of the ranks' arrays."""
        shape = list(parts[0].shape)
        shape[self.dim] = self.size
        whole = np.zeros(shape, parts[0].dtype)
        before = (slice(None),) * self.dim
        for rank, part in enumerate(parts):
            places = self.places(rank)
            kept = places != PADDING
            whole[(*before, places[kept])] = part[(*before, kept)]
        return whole


def local_type(value: Value, split: Split) -> TensorType:
    """Return the type of a rank's part of a value."""
    shape = list(value.shape)
    shape[split.dim] = split.local
    return value.type.with_shape(*shape)


@dataclass(frozen=True)
class HeadLayout:
    """Query heads and key heads over ranks, as NxD Inference lays them.

    Key heads that divide over the ranks are split; ranks that divide over key heads get a copy of
    one each (REPLICATE_TO_TP_DEGREE); else every query head gets a key head of its own
    (CONVERT_TO_MHA). Query heads are padded until every rank has equally many of each key head.
    """

    heads: int
    key_heads: int
    ranks: int

    @cached_property
    def queries(self) -> tuple[tuple[int, ...], ...]:
        """Query heads of each rank."""
        if self.ranks % self.key_heads == 0:
            return self._shared(self.ranks // self.key_heads, self.heads // self.key_heads)
        return _even(self.heads, self.ranks)

    @cached_property
    def keys(self) -> tuple[tuple[int, ...], ...]:
        """Key heads of each rank."""
        if self.ranks % self.key_heads == 0:
            copies = self.ranks // self.key_heads
            return tuple((rank // copies,) for rank in range(self.ranks))
        if self.key_heads % self.ranks == 0:
            return _even(self.key_heads, self.ranks)
        share = self.heads // self.key_heads
        return tuple(
            tuple(PADDING if head == PADDING else head // share for head in part)
            for part in self.queries
        )

    def _shared(self, copies: int, share: int) -> tuple[tuple[int, ...], ...]:
        """Return the query heads where each key head lies on `copies` ranks."""
        each = -(-share // copies)
        parts = []
        for rank in range(self.ranks):
            key_head, copy = divmod(rank, copies)
            places = range(copy * each, (copy + 1) * each)
            parts.append(tuple(key_head * share + p if p < share else PADDING for p in places))
        return tuple(parts)


def _even(count: int, ranks: int) -> tuple[tuple[int, ...], ...]:
    each = -(-count // ranks)
    return tuple(
        tuple(n if n < count else PADDING for n in range(rank * each, (rank + 1) * each))
        for rank in range(ranks)
    )


@dataclass(frozen=True, slots=True)
class ShardLoader:
    """Reads a rank's part of a weight."""

    load: Callable[[], np.ndarray]
    split: Split
    rank: int

    def __call__(self) -> np.ndarray:
        """Return the part."""
        return self.split.take(self.load(), self.rank)
