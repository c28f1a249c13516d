"""Which tensors lie on the same bytes, one after another, as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emuron.sim.footprints import Column

_AT_ONCE = 1 << 22  # tenancies of one chunk, to bound memory


@dataclass(frozen=True, slots=True, eq=False)
class Tenancies:
    """Some cells of bytes and who lies on them, by cell and in the order in which they are given.

    Entry i says that tensor `tenant[i]` lies on cell `cell[i]`, which has `size[i]` bytes.
    """

    cell: Column
    tenant: Column
    size: Column

    @property
    def follows(self) -> Column:
        """The entries that have another one before them on their cell."""
        return np.flatnonzero(self.cell[1:] == self.cell[:-1]) + 1

    @property
    def opens(self) -> Column:
        """The first entry of each cell."""
        return np.flatnonzero(np.diff(self.cell, prepend=-1))

    @property
    def closes(self) -> Column:
        """The last entry of each cell."""
        return np.flatnonzero(np.diff(self.cell, append=-1))


def tenancies(start: Column, end: Column) -> Iterator[Tenancies]:
    """Yield who lies on which cells, given the bytes of each tensor: all of a cell together."""
    if not len(start):
        return
    borders = np.unique(np.concatenate([start, end]))
    low, high = np.searchsorted(borders, start), np.searchsorted(borders, end)
    changes = np.bincount(low, minlength=len(borders)) - np.bincount(high, minlength=len(borders))
    upto = np.cumsum(np.cumsum(changes))
    first = 0
    while first < len(borders) - 1:
        done = int(upto[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(upto, done + _AT_ONCE)))
        yield _between(borders, np.clip(low, first, last), np.clip(high, first, last))
        first = last


def _between(borders: Column, low: Column, high: Column) -> Tenancies:
    counts = high - low
    tenant = np.repeat(np.arange(len(low)), counts)
    cell = np.arange(len(tenant)) - np.repeat(np.cumsum(counts) - counts - low, counts)
    order = np.argsort(cell, kind="stable")
    cell = cell[order]
    return Tenancies(cell, tenant[order], np.diff(borders)[cell])
