"""What an instance costs, and what a million inferences or tokens cost on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from emuron.errors import UsageError

KINDS = ("on_demand", "ri_effective", "capacity_block", "sagemaker", "estimate")


@dataclass(frozen=True, slots=True)
class Price:
    """A price in US dollars an hour, and when and where it was stated.

    `kind` is one of KINDS: `ri_effective` is a reserved instance's effective rate (its term is not
    published), `estimate` is nobody's offer. `first` and `last` are the dates between which the
    source stated it.
    """

    kind: str
    usd_per_hour: float
    source: str
    first: date | None = None
    last: date | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"price kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.usd_per_hour <= 0:
            raise UsageError(f"a price of {self.usd_per_hour} USD/hour is not positive")

    @property
    def stated(self) -> date:
        """The latest day on which the source stated the price."""
        return self.last or self.first or date.min


def usd_per_million(throughput_per_s: float, usd_per_hour: float) -> float:
    """Return the dollars that a million inferences (or tokens) cost.

    The published formula: 10^6 / throughput / 3600 * hourly rate (docs, benchmarks/inf2).
    """
    if throughput_per_s <= 0:
        raise UsageError(f"a throughput of {throughput_per_s}/s costs nothing meaningful: give > 0")
    return 1e6 / throughput_per_s / 3600 * usd_per_hour
