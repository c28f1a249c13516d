"""Step times from bytes and operations alone: what no compiled graph can beat."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.frontends.hf_llama import LlamaConfig
from emuron.errors import CapacityError, UsageError
from emuron.hardware.instance import Instance
from emuron.serving.sequence import StepKind

_US = 1e-6
_GB = 1e9
_TFLOP = 1e12


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a step moves and computes: bytes of weights and of one token's cache, and operations."""

    weight_bytes: int
    matrix_weights: int  # weights that each token is multiplied with
    kv_bytes_per_token: int
    attention_width: int  # query heads times head size
    layers: int
    dtype: str

    @classmethod
    def of(cls, model: HFModel) -> ModelSize:
        """Count the weights of a Llama; an input embedding of its own is read, not multiplied."""
        config = model.config
        if not isinstance(config, LlamaConfig):
            raise UsageError(f"{model.name} is not of the Llama family")
        graph = model.decode_graph(1, 1)
        matrices = sum(
            p.type.size_bytes // model.dtype.itemsize
            for p in graph.parameters
            if len(p.type.shape) == 2 and not p.name.startswith("rope.")
        )
        embedding = 0 if config.tied else config.vocabulary * config.hidden
        return cls(
            weight_bytes=graph.parameter_bytes,
            matrix_weights=matrices - embedding,
            kv_bytes_per_token=2
            * config.layers
            * config.key_heads
            * config.head_size
            * model.dtype.itemsize,
            attention_width=config.heads * config.head_size,
            layers=config.layers,
            dtype=str(model.dtype),
        )


@dataclass(frozen=True, slots=True)
class Roofline:
    """A `TimeGraph`: the longer of moving and multiplying, plus launch and collectives.

    `tp` logical cores of `instance` share weights, cache and work evenly. A decode takes the
    synchronous launch of the host; with `tp` > 1 each half-layer takes one collective. All figures
    are the instance's. A real graph is slower: nothing here waits, stalls or is laid out badly.
    """

    instance: Instance
    tp: int
    size: ModelSize

    def __post_init__(self) -> None:
        """Refuse more cores than there are."""
        if not 1 <= self.tp <= self.instance.logical_cores:
            raise UsageError(
                f"--tp must lie between 1 and the {self.instance.logical_cores} logical cores of "
                f"{self.instance.name}, got {self.tp}"
            )

    @property
    def memory_bytes(self) -> int:
        """Device memory that belongs to the `tp` cores."""
        return self.instance.hbm_bytes * self.tp // self.instance.logical_cores

    @property
    def kv_budget_bytes(self) -> int:
        """Device memory that is left beside the weights; raise CapacityError when none is."""
        left = self.memory_bytes - self.size.weight_bytes
        if left <= 0:
            raise CapacityError(
                f"the weights take {self.size.weight_bytes} bytes, but {self.tp} cores of "
                f"{self.instance.name} have {self.memory_bytes}; raise --tp or choose a larger "
                "instance with --on"
            )
        return left

    def __call__(self, kind: StepKind, batch: int, tokens: int, context: int) -> float:
        """Return the seconds of one step."""
        chip = self.instance.chip
        cores = self.tp / chip.logical_cores
        read = self.size.weight_bytes + batch * (context + tokens) * self.size.kv_bytes_per_token
        memory_s = read / (cores * chip.hbm_gb_per_s * chip.hbm_efficiency * _GB)
        peak = chip.peak_tflops(self.size.dtype)
        if peak is None:
            raise UsageError(f"no peak rate is known for {self.size.dtype} on {chip.name}")
        compute_s = batch * self._operations(tokens, context) / (cores * peak * _TFLOP)
        collectives_us = chip.collectives.half_layer_us * 2 * self.size.layers
        return (
            max(memory_s, compute_s)
            + self.instance.host.sync_launch_us * _US
            + (collectives_us * _US if self.tp > 1 else 0.0)
        )

    def _operations(self, tokens: int, context: int) -> int:
        """Return the floating-point operations of one sequence's step."""
        products = 2 * tokens * self.size.matrix_weights
        attention = 4 * tokens * (context + tokens) * self.size.attention_width * self.size.layers
        return products + attention
