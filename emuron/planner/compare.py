"""Compare instances for a model: latency, throughput, memory and price side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emuron.errors import EmuronError

if TYPE_CHECKING:
    from emuron.compiler.compile import CompiledModel


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a model does on one instance at one batch; `reason` says why it cannot run there.

    Latency is that of one inference with its host, throughput that of the whole instance. Dollars
    are for a million inferences, None where the price is not known.
    """

    instance: str
    batch: int
    reason: str = ""
    latency_ms: float | None = None
    throughput_per_s: float | None = None
    memory_per_core_bytes: int | None = None
    memory_per_core_limit_bytes: int | None = None
    bound_by: str = ""
    usd_per_million_on_demand: float | None = None
    usd_per_million_reserved: float | None = None

    @property
    def runs(self) -> bool:
        """Whether the model runs there at all."""
        return not self.reason


Compile = Callable[[str, int], "CompiledModel"]
"""Compiles the model in question for an instance and a batch."""


def compare(
    compile_for: Compile, instances: Sequence[str], batches: Sequence[int]
) -> Iterator[Candidate]:
    """Yield the candidates in the order given; one that cannot run says why, and does not raise."""
    for instance in instances:
        for batch in batches:
            try:
                yield _measured(compile_for(instance, batch))
            except EmuronError as error:
                yield Candidate(instance, batch, reason=str(error))


def _measured(model: CompiledModel) -> Candidate:
    found = model.summary()
    costs = found["usd_per_million"]
    return Candidate(
        model.instance.name,
        model.batch,
        latency_ms=found["latency_ms"],
        throughput_per_s=found["throughput_per_s"],
        memory_per_core_bytes=found["memory_per_core_bytes"],
        memory_per_core_limit_bytes=found["memory_per_core_limit_bytes"],
        bound_by=found["bound_by"],
        usd_per_million_on_demand=costs.get("On demand"),
        usd_per_million_reserved=costs.get("Reserved (effective)"),
    )


@dataclass(frozen=True, slots=True)
class Best:
    """The candidates to choose by what matters; None where none runs, or no price is known."""

    latency: Candidate | None
    throughput: Candidate | None
    price: Candidate | None


def best(candidates: Sequence[Candidate]) -> Best:
    """Return the quickest, the one with most throughput and the cheapest (on demand)."""

    def least(value: Callable[[Candidate], float | None]) -> Candidate | None:
        known = [(found, c) for c in candidates if (found := value(c)) is not None]
        return min(known, key=lambda pair: pair[0])[1] if known else None

    return Best(
        least(lambda c: c.latency_ms),
        least(lambda c: None if c.throughput_per_s is None else -c.throughput_per_s),
        least(lambda c: c.usd_per_million_on_demand),
    )
