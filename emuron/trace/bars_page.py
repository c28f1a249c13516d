"""A page of bar charts that set things side by side: instances of a model, layers of a graph."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import isfinite

from emuron.trace.atomic import replacing
from emuron.trace.html import render
from emuron.trace.quantity import digits


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing and its value; None where it has none. `marked` bars stand out."""

    label: str
    value: float | None
    marked: bool = False

    @property
    def text(self) -> str:
        """The value for people."""
        if self.value is None:
            return "–"
        return digits(self.value) if isfinite(self.value) else str(self.value)


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars of one quantity, from 0 to the largest; `lead` says how to read it."""

    title: str
    lead: str
    bars: tuple[Bar, ...]

    def width(self, bar: Bar) -> float:
        """Return the length of a bar as a percentage of the longest."""
        finite = [b.value for b in self.bars if b.value is not None and isfinite(b.value)]
        longest = max(finite, default=0.0)
        if bar.value is None or longest <= 0:
            return 0.0
        return 100 * min(1.0, bar.value / longest) if isfinite(bar.value) else 100.0


@dataclass(frozen=True, slots=True)
class BarsPage:
    """A titled page of charts, with notes below."""

    kicker: str
    title: str
    subject: str
    charts: tuple[BarChart, ...]
    notes: tuple[str, ...] = ()


def to_html(page: BarsPage, path: str | os.PathLike[str]) -> None:
    """Write the page to `path`, whole or not at all."""
    text = render("bars.html.j2", page=page)
    with replacing(path) as file:
        file.write(text.encode())
