"""How long a step takes on the instance: from a table, or from whoever times the compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from emuron.errors import UsageError
from emuron.serving.sequence import StepKind

TimeGraph = Callable[[StepKind, int, int, int], float]
"""`time_graph(kind, batch, tokens, context) -> seconds` of the graph compiled for these sizes."""


class StepTimer(Protocol):
    """The instance's time for one step of a compiled shape."""

    def step_seconds(
        self, kind: StepKind, batch_bucket: int, token_bucket: int, context: int
    ) -> float:
        """Return the seconds of one step of `batch_bucket` sequences, `token_bucket` tokens each.

        `context` is the KV cache bucket that the step reads; 0 for a prefill from nothing.
        """


class TableStepTimer:
    """Times given by hand: seconds by prefill token bucket and by decode batch bucket."""

    def __init__(
        self, prefill_seconds: Mapping[int, float], decode_seconds: Mapping[int, float]
    ) -> None:
        """Keep the two tables."""
        self._tables = {"prefill": dict(prefill_seconds), "decode": dict(decode_seconds)}

    def step_seconds(
        self, kind: StepKind, batch_bucket: int, token_bucket: int, context: int
    ) -> float:
        """Return the table's entry; raise UsageError when the bucket is not in it."""
        bucket = token_bucket if kind == "prefill" else batch_bucket
        table = self._tables[kind]
        if bucket not in table:
            raise UsageError(
                f"the step-time table has no {kind} bucket {bucket}; it has {sorted(table)}"
            )
        return table[bucket]


class ModelStepTimer:
    """Asks `time_graph` once for every compiled shape and remembers the answer."""

    def __init__(self, time_graph: TimeGraph) -> None:
        """Ask `time_graph` when a shape is first met."""
        self._time_graph = time_graph
        self._known: dict[tuple[StepKind, int, int, int], float] = {}

    def step_seconds(
        self, kind: StepKind, batch_bucket: int, token_bucket: int, context: int
    ) -> float:
        """Return the seconds of the graph compiled for these sizes."""
        shape = (kind, batch_bucket, token_bucket, context)
        if shape not in self._known:
            self._known[shape] = self._time_graph(*shape)
        return self._known[shape]
