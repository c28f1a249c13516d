"""The pipeline: the passes a graph goes through, then lowering and placement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from emuron.compiler.graph import Graph, Parameter, Value, verify
from emuron.compiler.ops import Autocast
from emuron.compiler.passes.clean import drop_dead_nodes, share_equal_nodes
from emuron.compiler.passes.lower import Binding, Lowered, lower
from emuron.errors import CapacityError
from emuron.hardware.chip import NeuronCore
from emuron.numerics.dtypes import DType, dtype, float32
from emuron.numerics.rounding import round_to, widen
from emuron.runtime.executable import Executable, Image, Port
from emuron.sim.memory import Placement, place
from emuron.sim.timing import TimingSimulator

PASSES: tuple[Callable[[Graph], Graph], ...] = (drop_dead_nodes, share_equal_nodes)
"""What a graph goes through before lowering, in order; after each, `verify` holds."""

MATMULT = Autocast("matmult")
"""Products in bfloat16, all else in float32: what the published tables of encoders use."""

RESIDENT_SHARES = (0.55, 0.35, 0.15, 0.0)
"""Shares of SBUF for values between kernels: the one that gives the quickest program is kept."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """Options of the compiler: `--auto-cast` and `--auto-cast-type` as neuronx-cc has them."""

    autocast: Autocast = MATMULT


def optimize(graph: Graph, passes: tuple[Callable[[Graph], Graph], ...] = PASSES) -> Graph:
    """Return the graph after all passes; raises UsageError if one breaks it."""
    for apply in passes:
        graph = apply(graph)
        verify(graph)
    return graph


def compile_graph(graph: Graph, core: NeuronCore, options: CompileOptions) -> Executable:
    """Return the executable of a graph for one core.

    Raises UnsupportedOpError for an op without a kernel and CapacityError if no placement fits.
    """
    graph = optimize(graph)
    lowered, placement = _fastest(graph, core, options)
    names = dict(zip(graph.outputs, graph.output_names, strict=True))
    return Executable(
        graph.name,
        lowered.program,
        placement,
        tuple(_port(b, {v: v.name for v in graph.inputs}) for b in lowered.inputs),
        tuple(_port(b, names) for b in lowered.outputs),
        _images(graph, lowered),
        {graph.output_names[o]: graph.inputs[i].name for o, i in graph.aliases.items()},
    )


def _fastest(graph: Graph, core: NeuronCore, options: CompileOptions) -> tuple[Lowered, Placement]:
    """Return the quickest program among those with different shares of resident values."""
    usable = core.sbuf_usable_bytes_per_partition
    best: tuple[int, Lowered, Placement] | None = None
    for share in RESIDENT_SHARES:
        lowered = lower(graph, core, options.autocast, int(usable * share))
        try:
            placement = place(lowered.program)
        except CapacityError:
            if best is None and share == RESIDENT_SHARES[-1]:
                raise
            continue
        total_ps = TimingSimulator(core).run(lowered.program, collect=False).total_ps
        if best is not None and total_ps >= best[0]:
            break
        best = (total_ps, lowered, placement)
    assert best is not None
    return best[1:]


def _port(binding: Binding, names: Mapping[Value, str]) -> Port:
    shapes = tuple(v.shape for v in binding.values)
    return Port(binding.tensor, tuple(names[v] for v in binding.values), shapes, binding.dtype)


def _images(graph: Graph, lowered: Lowered) -> tuple[Image, ...]:
    parameters = {p.value: p for p in graph.parameters}
    weights = [
        Image(b.tensor, _Loader(tuple(parameters[v] for v in b.values), b))
        for b in lowered.parameters
    ]
    constants = [Image(t, _Constant(a, t.dtype)) for t, a in lowered.constants.items()]
    return (*weights, *constants)


@dataclass(frozen=True, slots=True, eq=False)
class _Loader:
    """Reads, rounds, packs and stacks parameters into one HBM tensor."""

    parameters: tuple[Parameter, ...]
    binding: Binding

    def __call__(self) -> np.ndarray:
        parts = [self._one(p) for p in self.parameters]
        return np.concatenate([p.reshape(-1) for p in parts]).reshape(self.binding.tensor.shape)

    def _one(self, parameter: Parameter) -> np.ndarray:
        array = in_dtype(parameter.load(), self.binding.dtype)
        packing = self.binding.packing
        return array if packing is None else np.asarray(packing.pack(array))


@dataclass(frozen=True, slots=True, eq=False)
class _Constant:
    array: np.ndarray
    dtype: DType

    def __call__(self) -> np.ndarray:
        return in_dtype(self.array, self.dtype)


def in_dtype(array: np.ndarray, wanted: DType) -> np.ndarray:
    """Return an array rounded to another dtype (float64 through float32)."""
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    found = dtype(array.dtype)
    if found == wanted:
        return array
    working = array if found == float32 else widen(array, found)
    return round_to(working, wanted)
