"""Which cases of a file run by default: always the same, evenly spread."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

import pytest

T = TypeVar("T")


def selected(items: Sequence[pytest.Item], most: int) -> list[pytest.Item]:
    """Return at most `most` cases of each file (0: all), at least one of each test function.

    Every function of a file gets an equal share, what it does not need goes to the others; its
    cases are taken at equal distances in the order of the file.
    """
    if most == 0:
        return list(items)
    kept: list[pytest.Item] = []
    for _, cases in groupby(items, key=lambda item: item.path):
        functions = [
            list(group)
            for _, group in groupby(cases, key=lambda item: item.nodeid.partition("[")[0])
        ]
        for cases_of, share in zip(
            functions, shares([len(f) for f in functions], most), strict=True
        ):
            kept += spread(cases_of, share)
    return kept


def shares(counts: Sequence[int], total: int) -> list[int]:
    """Return how many of each count to take: equal shares, none above its count, none zero."""
    given = [0] * len(counts)
    left = total
    for position, index in enumerate(sorted(range(len(counts)), key=lambda i: counts[i])):
        share = max(1, left // (len(counts) - position))
        given[index] = min(counts[index], share)
        left = max(0, left - given[index])
    return given


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` of the items at equal distances, the first included."""
    return [items[k * len(items) // count] for k in range(count)]
