"""A model over several ranks: evaluated in lockstep, or executed instruction by instruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from emuron.compiler.evaluate import Evaluator, Run
from emuron.compiler.ops import Autocast
from emuron.compiler.ops.collectives import RankOp
from emuron.compiler.ops.context import NO_AUTOCAST
from emuron.compiler.passes.tensor_parallel import Partition
from emuron.nki.cores import Team
from emuron.numerics.backend import Backend, get_backend
from emuron.runtime.device import Device
from emuron.runtime.executable import Executable

Inputs = Mapping[str, np.ndarray]


class RankEvaluator:
    """Evaluates a partitioned graph on all its ranks, op by op."""

    def __init__(
        self,
        parts: Partition,
        backend: Backend | str = "numpy",
        autocast: Autocast = NO_AUTOCAST,
    ) -> None:
        """Prepare every rank's graph; each keeps its own weights once read."""
        self.parts = parts
        made = get_backend(backend) if isinstance(backend, str) else backend
        graphs = [parts.of_rank(rank) for rank in range(parts.ranks)]
        self.evaluators = [Evaluator(graph, made, autocast) for graph in graphs]

    def run(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return the whole graph's outputs from its inputs, by name."""
        runs = [Run(evaluator) for evaluator in self.evaluators]
        for rank, run in enumerate(runs):
            run.enter(self.parts.inputs_of(inputs, rank))
        for node in self.parts.graph.nodes:
            if isinstance(node.op, RankOp):
                operands = [run.read(node)[0] for run in runs]
                results = node.op.evaluate(runs[0].context(node), *operands)
                for run, result in zip(runs, results, strict=True):
                    run.keep_outputs(node, (result,))
            else:
                for run in runs:
                    run.step(node)
        return self.parts.joined([run.outputs() for run in runs])


def execute_ranks(
    parts: Partition,
    compile_rank: Callable[[int], Executable],
    device_of: Callable[[Callable[..., None]], Device],
    inputs: Inputs,
) -> dict[str, np.ndarray]:
    """Return the whole graph's outputs, every rank executed instruction by instruction.

    `compile_rank` gives a rank's executable; `device_of` a device whose machines meet others by
    the function it is given.
    """
    team = Team(1, parts.ranks, get_backend("numpy"))
    works: Sequence[Callable[[], dict[str, np.ndarray]]] = [
        partial(
            device_of(seat.meet).run,
            compile_rank(seat.id.rank),
            parts.inputs_of(inputs, seat.id.rank),
        )
        for seat in team.seats.values()
    ]
    return parts.joined(team.run(works))
