"""Who wrote the bytes of placed memory last, to find values that were lost while still needed.

Tensors that a kernel puts on the same bytes with `address=` share their contents. One that was
written, then overwritten through another, and is read again, holds what the other left: nearly
always a buffer reused too early. What a tensor never wrote itself it may read: that is how kernels
see the same bytes under another shape or dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.isa.tensor import Tensor
from emuron.sim.aliases import extent

_MOST_MARKS = 255
"""Marks fill a byte; a tensor may have the mark of one placed so many before, and escape."""


class Owners:
    """Gives each placed tensor a mark, and refuses reads of what another one took over.

    `report` gets a message for each; None looks for none.
    """

    def __init__(self, report: Callable[[str], None] | None) -> None:
        self._report = report
        self._placed: list[Tensor] = []

    def mark(self, tensor: Tensor) -> int:
        """Return the mark of a newly placed tensor, 1 to 255."""
        self._placed.append(tensor)
        return (len(self._placed) - 1) % _MOST_MARKS + 1

    def check(
        self, tensor: Tensor, mark: int, found: npt.NDArray[Any], wrote: Any, reading: str
    ) -> None:
        """Report bytes whose marks are of another tensor although this one `wrote` them before."""
        lost = (found != mark) & wrote
        if self._report is None or not lost.any():
            return
        other = self._owner(tensor, int(found[lost][0]))
        if other is None or _is_reinterpretation(tensor, other):
            return
        self._report(
            f"{reading}: {int(np.count_nonzero(lost))} bytes of '{tensor.name}' "
            f"{list(tensor.shape)} {tensor.dtype} at {tensor.address} were overwritten through "
            f"'{other.name}' {list(other.shape)} {other.dtype} at {other.address}, which lies on "
            "the same bytes, while still needed. Place them apart, or read the first before the "
            "other is written."
        )

    def _owner(self, tensor: Tensor, mark: int) -> Tensor | None:
        """Return the latest tensor with a mark that overlaps another."""
        own = extent(tensor)
        for other in reversed(self._placed[mark - 1 :: _MOST_MARKS]):
            its = extent(other)
            rows = own[0] < its[1] and its[0] < own[1]
            if other is not tensor and rows and own[2] < its[3] and its[2] < own[3]:
                return other
        return None


def _is_reinterpretation(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are evidently the same buffer under two dtypes."""
    return one.address == other.address and one.dtype != other.dtype
