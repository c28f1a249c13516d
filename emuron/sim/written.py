"""Which bytes of a memory have been written: rectangles as long as they do, then a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]  # first row, row after the last, first byte, byte after

WRITTEN = 1
_MOST_RECTANGLES = 32


class Written:
    """What has been written of `nbytes` bytes in rows of `pitch` bytes.

    `unwritten` counts the other bytes. Writes that are rectangles of whole, disjoint or equal
    parts are kept as such and joined where they touch; any other write goes into a mask, which
    holds WRITTEN for each written byte and is None before.
    """

    __slots__ = ("nbytes", "pitch", "unwritten", "mask", "rectangles")

    def __init__(self, nbytes: int, pitch: int) -> None:
        self.nbytes = nbytes
        self.pitch = pitch
        self.forget()

    def forget(self) -> None:
        """Take all bytes for unwritten."""
        self.unwritten = self.nbytes
        self.mask: Bytes | None = None
        self.rectangles: list[Rectangle] = []

    def fill(self) -> None:
        """Take all bytes for written."""
        self.unwritten = 0
        self.mask = None
        self.rectangles = []

    def make_mask(self) -> Bytes:
        """Return the mask, made if there is none; a byte more than asked for is never written."""
        if self.mask is None:
            rows = -(-self.nbytes // self.pitch)
            mask = np.zeros((rows, self.pitch), np.uint8)
            if not self.unwritten:
                mask.fill(WRITTEN)
            for top, bottom, left, right in self.rectangles:
                mask[top:bottom, left:right] = WRITTEN
            self.rectangles = []
            self.mask = mask.reshape(-1)
        return self.mask

    def covers(self, part: Rectangle) -> bool:
        """Return whether one rectangle holds all of a part; a mask may know more."""
        return any(_holds(known, part) for known in reversed(self.rectangles))

    def touches(self, part: Rectangle) -> bool:
        """Return whether a rectangle overlaps a part."""
        return any(_overlap(known, part) for known in self.rectangles)

    def add(self, part: Rectangle) -> bool:
        """Note that a part is written, if rectangles can say so; return whether they can."""
        if self.mask is not None:
            return False
        if not self.unwritten or self.covers(part):
            return True
        others = [known for known in self.rectangles if not _holds(part, known)]
        if len(others) >= _MOST_RECTANGLES or any(_overlap(known, part) for known in others):
            return False
        new = _area(part) - sum(_area(known) for known in self.rectangles if known not in others)
        self.rectangles = _joined(others, part)
        self.unwritten -= new
        if not self.unwritten:
            self.fill()
        return True


def _area(part: Rectangle) -> int:
    return (part[1] - part[0]) * (part[3] - part[2])


def _holds(outer: Rectangle, inner: Rectangle) -> bool:
    return (
        outer[0] <= inner[0]
        and inner[1] <= outer[1]
        and outer[2] <= inner[2]
        and inner[3] <= outer[3]
    )


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def _joined(others: list[Rectangle], part: Rectangle) -> list[Rectangle]:
    """Return the rectangles with a new one, made one with those that it continues."""
    for k, known in enumerate(others):
        side_by_side = known[:2] == part[:2] and (known[3] == part[2] or part[3] == known[2])
        stacked = known[2:] == part[2:] and (known[1] == part[0] or part[1] == known[0])
        if side_by_side or stacked:
            whole = (
                min(known[0], part[0]),
                max(known[1], part[1]),
                min(known[2], part[2]),
                max(known[3], part[3]),
            )
            return _joined(others[:k] + others[k + 1 :], whole)
    return [*others, part]
