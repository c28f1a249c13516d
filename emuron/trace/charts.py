"""Charts: the geometry of the report's SVG pictures; the template only draws what stands here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from emuron.trace.quantity import digits, duration_text, share_text, trimmed

# One viewBox for all line charts: room for tick labels on the left and below, in SVG units.
WIDTH, HEIGHT = 560, 200
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 18, 30
ROOF_WIDTH, ROOF_HEIGHT = 760, 380
_MOST_POINTS = 700

_Place: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where in the SVG, and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """A level over time: the line, the area below it, the axes and, if known, the limit."""

    title: str
    peak: str
    line: str
    area: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    limit: Tick | None


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """One kernel, layer or run: FLOPs done and bytes moved in `time_ps`."""

    name: str
    flops: float
    bytes: float
    time_ps: float

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved."""
        return self.flops / self.bytes

    @property
    def tflops(self) -> float:
        """FLOPs for each picosecond, which are TFLOP/s."""
        return self.flops / self.time_ps


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the machine can do: peak TFLOP/s by dtype, and GB/s by path (HBM, DMA)."""

    peak_tflops: tuple[tuple[str, float], ...] = ()
    gb_per_s: tuple[tuple[str, float], ...] = ()

    def roof(self, intensity: float) -> float:
        """Return the highest TFLOP/s attainable at `intensity`."""
        peak = max((p for _, p in self.peak_tflops), default=math.inf)
        slope = max((b for _, b in self.gb_per_s), default=math.inf)
        return min(peak, intensity * slope / 1000)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of the roofline, with its number in the list beside it."""

    x: float
    y: float
    label_x: float
    label_y: float
    number: int
    name: str
    intensity: str
    tflops: str
    of_roof: float | None
    bound: str


@dataclass(frozen=True, slots=True)
class Line:
    """A ceiling of the roofline and where its name stands."""

    name: str
    path: str
    x: float
    y: float
    is_peak: bool


@dataclass(frozen=True, slots=True)
class Roofline:
    """Points under the machine's ceilings, both axes logarithmic."""

    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def line_chart(
    title: str,
    t_ps: NDArray[np.float64],
    value: NDArray[np.float64],
    total_ps: int,
    text: Callable[[float], str],
    *,
    limit: float | None = None,
    binary: bool = False,
) -> LineChart:
    """Return the chart of a level held from each `t_ps` to the next; `binary` ticks for bytes."""
    t_ps, value = _thinned(t_ps, value)
    peak = float(value.max(initial=0.0))
    top = peak * 1.08 or 1.0
    # A limit far above the line would flatten it; the peak's text then says how far.
    drawn_limit = limit if limit and limit <= top * 2.5 else None
    top = max(top, (drawn_limit or 0) * 1.08)
    x = LEFT + (WIDTH - LEFT - RIGHT) * np.clip(t_ps / max(total_ps, 1), 0, 1)
    floor = HEIGHT - BOTTOM
    y = floor - (floor - TOP) * value / top
    line = _steps(x, y)
    share = f", {share_text(peak / limit)} of {trimmed(text(limit))}" if limit else ""
    return LineChart(
        title=title,
        peak=f"peak {text(peak)}{share}",
        line=line,
        area=f"M{x[0]:.1f},{floor} L{line[1:]} V{floor} Z" if len(x) else "",
        x_ticks=tuple(
            Tick(LEFT + (WIDTH - LEFT - RIGHT) * t / max(total_ps, 1), trimmed(duration_text(t)))
            for t in nice_ticks(total_ps, 5)
        ),
        y_ticks=tuple(
            Tick(floor - (floor - TOP) * v / top, trimmed(text(v)))
            for v in nice_ticks(top, 4, binary)
        ),
        limit=Tick(floor - (floor - TOP) * drawn_limit / top, trimmed(text(drawn_limit)))
        if drawn_limit
        else None,
    )


def nice_ticks(top: float, about: int, binary: bool = False) -> list[float]:
    """Return about that many round values from 0 to `top` (powers of two apart if `binary`)."""
    if top <= 0:
        return [0.0]
    if binary:
        step = 2.0 ** math.ceil(math.log2(top / about))
    else:
        power = 10.0 ** math.floor(math.log10(top / about))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m * about >= top * 0.999)
    return [step * i for i in range(int(top / step * 1.0001) + 1)]


def roofline(points: Iterable[RooflinePoint], ceilings: Ceilings) -> Roofline | None:
    """Return the roofline chart of the points with bytes and FLOPs, or None if there are none."""
    shown = [p for p in points if p.flops > 0 and p.bytes > 0 and p.time_ps > 0]
    if not shown or not (ceilings.peak_tflops or ceilings.gb_per_s):
        return None
    ridges = [
        peak * 1000 / slope for _, peak in ceilings.peak_tflops for _, slope in ceilings.gb_per_s
    ]
    low_x, high_x = _decades([p.intensity for p in shown] + ridges, room=0.3)
    roofs = [peak for _, peak in ceilings.peak_tflops] or [ceilings.roof(10.0**high_x)]
    low_y, high_y = _decades([p.tflops for p in shown] + roofs, room=0.15)
    axes = _LogAxes(low_x, high_x, low_y, high_y)
    places = [(axes.x(p.intensity), axes.y(p.tflops)) for p in shown]
    marks = tuple(
        _mark(place, label, ceilings, number, point)
        for number, (place, label, point) in enumerate(
            zip(places, _label_places(places), shown, strict=True), 1
        )
    )
    return Roofline(
        marks=marks,
        lines=tuple(_ceiling_lines(axes, ceilings)),
        x_ticks=tuple(
            Tick(axes.x(10.0**e), _power_text(e)) for e in range(math.ceil(low_x), int(high_x) + 1)
        ),
        y_ticks=tuple(
            Tick(axes.y(10.0**e), _power_text(e)) for e in range(math.ceil(low_y), int(high_y) + 1)
        ),
    )


@dataclass(frozen=True, slots=True)
class _LogAxes:
    """Decades to SVG units."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        part = (math.log10(value) - self.low_x) / (self.high_x - self.low_x)
        return LEFT + (ROOF_WIDTH - LEFT - RIGHT) * part

    def y(self, value: float) -> float:
        part = (math.log10(value) - self.low_y) / (self.high_y - self.low_y)
        floor = ROOF_HEIGHT - BOTTOM - 14
        return floor - (floor - TOP) * part


def _label_places(places: Sequence[_Place]) -> list[_Place]:
    """Return a place for each mark's number, near it and clear of all marks and other numbers."""
    taken = list(places)
    found = []
    for x, y in places:
        around = [
            (x + radius * math.cos(turn * math.pi / 6), y - radius * math.sin(turn * math.pi / 6))
            for radius in (16, 31, 46, 61)
            for turn in (1, 5, 11, 7, 3, 9, 0, 6)
        ]
        # Free means 15 units from everything: the size of a number of two digits.
        free = (p for p in around if all(math.dist(p, other) >= 15 for other in taken))
        label = next(free, around[0])
        taken.append(label)
        found.append(label)
    return found


def _mark(
    place: _Place, label: _Place, ceilings: Ceilings, number: int, point: RooflinePoint
) -> Mark:
    roof = ceilings.roof(point.intensity)
    peak = max((p for _, p in ceilings.peak_tflops), default=math.inf)
    return Mark(
        x=place[0],
        y=place[1],
        label_x=label[0],
        label_y=label[1],
        number=number,
        name=point.name,
        intensity=digits(point.intensity),
        tflops=digits(point.tflops),
        of_roof=point.tflops / roof if math.isfinite(roof) else None,
        bound="compute" if roof >= peak else "bandwidth",
    )


def _ceiling_lines(axes: _LogAxes, ceilings: Ceilings) -> Iterable[Line]:
    top = max((p for _, p in ceilings.peak_tflops), default=10.0**axes.high_y)
    widest = max((b for _, b in ceilings.gb_per_s), default=0.0)
    low, high = 10.0**axes.low_x, 10.0**axes.high_x
    for name, slope in ceilings.gb_per_s:
        begin = max(low, 10.0**axes.low_y * 1000 / slope)
        end = min(high, top * 1000 / slope)
        if begin >= end:
            continue
        path = f"M{axes.x(begin):.1f},{axes.y(begin * slope / 1000):.1f} "
        path += f"L{axes.x(end):.1f},{axes.y(end * slope / 1000):.1f}"
        text = f"{name} {digits(slope)} GB/s"
        middle = 10 ** (0.62 * math.log10(begin) + 0.38 * math.log10(end))
        yield Line(text, path, axes.x(middle), axes.y(middle * slope / 1000), False)
    for name, peak in ceilings.peak_tflops:
        begin = max(low, peak * 1000 / widest) if widest else low
        path = f"M{axes.x(min(begin, high)):.1f},{axes.y(peak):.1f} H{axes.x(high):.1f}"
        yield Line(f"{name} {digits(peak)} TFLOP/s", path, axes.x(high), axes.y(peak), True)


def _decades(values: Sequence[float], room: float) -> tuple[float, float]:
    low, high = math.log10(min(values)) - room, math.log10(max(values)) + room
    if high - low < 2:
        middle = (low + high) / 2
        return middle - 1, middle + 1
    return low, high


def _power_text(exponent: int) -> str:
    return trimmed(digits(10.0**exponent))


def _thinned(
    t_ps: NDArray[np.float64], value: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep few samples: of each stretch of them the highest, so that no peak is lost."""
    if len(t_ps) <= _MOST_POINTS:
        return t_ps, value
    edges = np.linspace(0, len(t_ps), _MOST_POINTS + 1).astype(np.int64)
    return t_ps[edges[:-1]], np.maximum.reduceat(value, edges[:-1])


def _steps(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    if not len(x):
        return ""
    moves = [f"M{x[0]:.1f},{y[0]:.1f}"]
    moves += [f"H{a:.1f} V{b:.1f}" for a, b in zip(x[1:], y[1:], strict=True)]
    return f"{' '.join(moves)} H{WIDTH - RIGHT}"
