"""What one pass of a compiler did: a name and figures, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from emuron.trace.quantity import bytes_text, share_text

_BYTES, _SHARE = ", bytes", ", share"


@dataclass(frozen=True, slots=True)
class PassRecord:
    """A pass and its figures in the order to show them.

    A figure's name says what was counted; one that ends in ", bytes" or ", share" has that unit.
    """

    name: str
    figures: Mapping[str, float]

    def __post_init__(self) -> None:
        """Freeze the figures."""
        object.__setattr__(self, "figures", MappingProxyType(dict(self.figures)))

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return each figure's name without its unit, and its value as text."""
        return tuple(_row(name, value) for name, value in self.figures.items())


def _row(name: str, value: float) -> tuple[str, str]:
    if name.endswith(_BYTES):
        return name.removesuffix(_BYTES), bytes_text(value)
    if name.endswith(_SHARE):
        return name.removesuffix(_SHARE), share_text(value)
    return name, f"{value:,.0f}"
