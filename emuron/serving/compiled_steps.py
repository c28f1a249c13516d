"""Step times of the compiled graphs: each bucket is compiled and timed when it is first met."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.compile import CompiledModel
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Graph
from emuron.compiler.ops import Autocast
from emuron.compiler.pipeline import CompileOptions, optimize
from emuron.hardware.instance import Instance
from emuron.serving.sequence import StepKind

_S_PER_US = 1e-6


@dataclass(frozen=True, slots=True)
class CompiledSteps:
    """A `TimeGraph`: the program of one of `tp` ranks for the sizes asked for, and its host.

    The host waits for every step before it launches the next (`sync_launch_us` of the instance);
    prompts take it `prompt_us` more.
    Weights are not read.
    """

    instance: Instance
    model: HFModel
    autocast: Autocast
    tp: int = 1

    def __call__(self, kind: StepKind, batch: int, tokens: int, context: int) -> float:
        """Return the seconds of one step; raises UnsupportedOpError, CapacityError."""
        latency = self.compiled(kind, batch, tokens, context).latency
        host = self.instance.host
        waiting_us = host.sync_launch_us - latency.launch_us
        prompt_us = host.prompt_us if kind == "prefill" and context == 0 else 0.0
        return (latency.total_us + waiting_us + prompt_us) * _S_PER_US

    def compiled(self, kind: StepKind, batch: int, tokens: int, context: int) -> CompiledModel:
        """Return the model compiled for the sizes of a step."""
        graph = optimize(self._graph(kind, batch, tokens, context))
        options = CompileOptions(self.autocast)
        return CompiledModel(graph, self.instance, options, batch, tp=self.tp)

    def _graph(self, kind: StepKind, batch: int, tokens: int, context: int) -> Graph:
        if kind == "prefill" and context == 0:
            return self.model.prefill_graph(batch, tokens)
        return self.model.decode_graph(batch, max(context, tokens), tokens)
