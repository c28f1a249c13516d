"""Quantities as people read them: three significant digits and a unit that fits."""

from __future__ import annotations

import math

_TIMES = ((10**12, "s"), (10**9, "ms"), (10**6, "µs"), (10**3, "ns"), (1, "ps"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
_SI = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_DIGITS = 3


def digits(value: float) -> str:
    """Return three significant digits without an exponent, thousands separated."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    places = max(0, _DIGITS - 1 - math.floor(math.log10(abs(value))))
    text = f"{round(value, places):,.{places}f}"
    return text.rstrip("0").rstrip(".") if abs(value) < 1 else text


def trimmed(text: str) -> str:
    """Return a quantity without zeros after its decimal point, as axes want it."""
    number, space, unit = text.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number}{space}{unit}"


def duration_text(ps: float) -> str:
    """Return a time given in picoseconds."""
    return _scaled(ps, _TIMES, "0 s")


def bytes_text(size: float) -> str:
    """Return a number of bytes in binary units."""
    return _scaled(size, _BYTES, "0 B")


def count_text(count: float, unit: str = "") -> str:
    """Return a count in decimal units: 1234567 FLOP is "1.23 MFLOP"."""
    for scale, prefix in _SI:
        if abs(count) >= scale:
            return f"{digits(count / scale)} {prefix}{unit}"
    return f"{digits(count)} {unit}".rstrip()


def share_text(share: float | None) -> str:
    """Return a share of one in per cent; a dash for None."""
    if share is None or not math.isfinite(share):
        return "–"
    percent = share * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %"


def money_text(usd: float | None) -> str:
    """Return dollars, cents exact from one dollar on; a dash for None."""
    if usd is None:
        return "–"
    return f"${usd:,.2f}" if abs(usd) >= 1 else f"${digits(usd)}"


def _scaled(value: float, units: tuple[tuple[int, str], ...], zero: str) -> str:
    if value == 0:
        return zero
    for scale, unit in units:
        if abs(value) >= scale:
            return f"{digits(value / scale)} {unit}"
    return f"{digits(value)} {units[-1][1]}"
