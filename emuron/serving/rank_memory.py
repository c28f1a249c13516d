"""The device memory of the cores that serve a model: its weights, and room for the KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Graph
from emuron.compiler.passes.tensor_parallel import partition
from emuron.errors import CapacityError, UsageError
from emuron.hardware.instance import Instance


@dataclass(frozen=True)
class RankMemory:
    """What one of `tp` logical cores holds: its part of the weights, with padding and copies."""

    instance: Instance
    model: HFModel
    tp: int

    def __post_init__(self) -> None:
        """Refuse more cores than there are."""
        if not 1 <= self.tp <= self.instance.logical_cores:
            raise UsageError(
                f"--tp must lie between 1 and the {self.instance.logical_cores} logical cores of "
                f"{self.instance.name}, got {self.tp}"
            )

    @cached_property
    def _graph(self) -> Graph:
        return partition(self.model.decode_graph(1, 1), self.tp).graph

    @property
    def weight_bytes(self) -> int:
        """Bytes of one core's weights."""
        return self._graph.parameter_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values on one core."""
        return self._graph.state_bytes

    @property
    def limit_bytes(self) -> int:
        """Bytes of one core's device memory that are left beside the runtime's share."""
        share = self.instance.hbm_bytes // self.instance.logical_cores
        return share - self.instance.chip.runtime_reserved_bytes

    @property
    def kv_budget_bytes(self) -> int:
        """Bytes of one core that are left for the cache; raise CapacityError when none are."""
        left = self.limit_bytes - self.weight_bytes
        if left <= 0:
            raise CapacityError(
                f"the weights take {self.weight_bytes} bytes on each of {self.tp} cores of "
                f"{self.instance.name}, which have {self.limit_bytes}; raise --tp or choose a "
                "larger instance with --on"
            )
        return left
