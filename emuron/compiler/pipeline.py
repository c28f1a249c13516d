"""The pipeline: the passes a graph goes through, then lowering and placement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from emuron.compiler.choices import (
    Choice,
    calls_foreign_code,
    choice_key,
    find_choice,
    keep_choice,
)
from emuron.compiler.graph import Graph, Node, Parameter, Value, block_hash, verify
from emuron.compiler.host import host_part, place_of, work
from emuron.compiler.ops import Autocast
from emuron.compiler.passes.bindings import Binding
from emuron.compiler.passes.clean import drop_dead_nodes, share_equal_nodes
from emuron.compiler.passes.expand import expand_composites
from emuron.compiler.passes.fold_batch_norm import fold_batch_norm
from emuron.compiler.passes.interleave import interleave
from emuron.compiler.passes.lower import Lowered, lower
from emuron.compiler.passes.partition import Part, partition
from emuron.compiler.passes.records import SCHEDULE, graph_record, program_record, schedule_record
from emuron.compiler.passes.widen_attention import widen_attention
from emuron.errors import CapacityError, UnsupportedOpError
from emuron.hardware.catalog import core_for
from emuron.hardware.chip import NeuronCore
from emuron.hardware.instance import Instance
from emuron.numerics.dtypes import DType
from emuron.numerics.rounding import in_dtype
from emuron.runtime.executable import DevicePart, Executable, Image, Port
from emuron.sim.memory import Placement, place
from emuron.sim.timing import TimingResult, TimingSimulator
from emuron.trace.pass_record import PassRecord

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    widen_attention,
    expand_composites,
    fold_batch_norm,
    drop_dead_nodes,
    share_equal_nodes,
)
"""What a graph goes through before lowering, in order; after each, `verify` holds."""

MATMULT = Autocast("matmult")
"""Products in bfloat16, all else in float32: what the published tables of encoders use."""

RESIDENT_SHARES = (0.55, 0.35, 0.15, 0.0)
"""Shares of SBUF for values between kernels: the one that gives the quickest program is kept."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """Options of the compiler: `--auto-cast` and `--auto-cast-type` as neuronx-cc has them.

    With `strict`, an operator without a kernel is refused instead of computed by the host.
    `weights` is how those of linear layers are stored: int8 or fp8, "" as the model has them.
    """

    autocast: Autocast = MATMULT
    strict: bool = False
    weights: str = ""


def apply_passes(
    graph: Graph, passes: tuple[Callable[[Graph], Graph], ...] = PASSES
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Return the graph after all passes, and what each did; raises UsageError if one breaks it."""
    records = []
    for apply in passes:
        before, graph = graph, apply(graph)
        verify(graph)
        records.append(graph_record(apply.__name__, before, graph))
    return graph, tuple(records)


def optimize(graph: Graph, passes: tuple[Callable[[Graph], Graph], ...] = PASSES) -> Graph:
    """Return the graph after all passes; raises UsageError if one breaks it."""
    return apply_passes(graph, passes)[0]


def compile_graph(
    graph: Graph, target: NeuronCore | Instance, options: CompileOptions
) -> Executable:
    """Return the executable of a graph for one core: the passes, then `compile_optimized`."""
    return compile_optimized(optimize(graph), target, options)


def compile_optimized(
    graph: Graph, target: NeuronCore | Instance, options: CompileOptions
) -> Executable:
    """Return the executable of a graph that went through the passes, for one core.

    A rank's graph needs the instance with its links. Operators without a kernel run on the host
    between programs; with `strict` the first one is refused with UnsupportedOpError. Raises
    CapacityError if no placement fits.
    """
    refused: dict[Node, str] = {}
    while True:
        parts = partition(graph, refused)
        programs = _programs(parts, target, options)
        found = {node: why for made in programs.values() for node, why in made.refused.items()}
        if not found:
            break
        refused.update(found)
        if options.strict:
            raise _refusal(*next(iter(refused.items())))
    return Executable(
        graph.name,
        tuple(
            host_part(part.graph, options.autocast, refused)
            if part.on_host
            else programs[part].device_part(part.graph)
            for part in parts
        ),
        {v.name: v.shape for v in graph.inputs},
        dict(zip(graph.output_names, (v.name for v in graph.outputs), strict=True)),
        {graph.output_names[o]: graph.inputs[i].name for o, i in graph.aliases.items()},
        len(graph.nodes),
        sum(work(node).flops for node in graph.nodes),
        (
            *((PassRecord("partition", _places(parts)),) if refused else ()),
            *(record for made in dict.fromkeys(programs.values()) for record in made.records),
        ),
    )


def _places(parts: Sequence[Part]) -> dict[str, float]:
    """Return how many parts and operators run where."""
    figures: Counter[str] = Counter()
    for part in parts:
        where = "on the host" if part.on_host else "on the device"
        figures.update({f"parts {where}": 1, f"operators {where}": len(part.graph.nodes)})
    return dict(figures)


def _refusal(node: Node, why: str) -> UnsupportedOpError:
    return UnsupportedOpError(
        f"{node.op.name} at {place_of(node)}: {why}. Without --strict it runs on the host."
    )


def _programs(
    parts: Sequence[Part], target: NeuronCore | Instance, options: CompileOptions
) -> dict[Part, _Compiled]:
    """Return the program of each part on the device; parts that are equal share one."""
    keys = {part: _key(part.graph) for part in parts if not part.on_host}
    uses = Counter(keys.values())
    made: dict[str, _Compiled] = {}
    for part, key in keys.items():
        if key not in made:
            made[key] = _program(part.graph, key, target, options, shared=uses[key] > 1)
    return {part: made[key] for part, key in keys.items()}


def _key(graph: Graph) -> str:
    weights = (p.value for p in graph.parameters)
    return block_hash(graph.nodes, graph.outputs, weights) + str(graph.aliases)


@dataclass(frozen=True, slots=True, eq=False)
class _Compiled:
    """The program of a graph; it stands for every graph that is wired alike."""

    graph: Graph
    lowered: Lowered
    placement: Placement | None = None  # where nodes were refused
    records: tuple[PassRecord, ...] = ()

    @property
    def refused(self) -> dict[Node, str]:
        """The nodes that have no kernel, and why."""
        return self.lowered.refused

    def device_part(self, graph: Graph) -> DevicePart:
        """Return the program with the ports and parameters of a graph that is wired alike."""
        assert self.placement is not None
        stands_for = dict(zip(_values(self.graph), _values(graph), strict=True))
        parameters = {p.value: p for p in graph.parameters}
        lowered = self.lowered
        return DevicePart(
            graph.name,
            lowered.program,
            self.placement,
            tuple(_port(b, stands_for) for b in lowered.inputs),
            tuple(_port(b, stands_for) for b in lowered.outputs),
            (
                *(
                    Image(b.tensor, _Loader(tuple(parameters[stands_for[v]] for v in b.values), b))
                    for b in lowered.parameters
                ),
                *(Image(t, _Constant(a, t.dtype)) for t, a in lowered.constants.items()),
            ),
            {graph.outputs[o].name: graph.inputs[i].name for o, i in graph.aliases.items()},
        )


def _values(graph: Graph) -> list[Value]:
    """Return the values of a graph in an order that graphs wired alike share."""
    read = (v for node in graph.nodes for v in (*node.inputs, *node.outputs))
    return list(dict.fromkeys((*read, *graph.inputs, *graph.outputs)))


def _program(
    graph: Graph, key: str, target: NeuronCore | Instance, options: CompileOptions, shared: bool
) -> _Compiled:
    """Return the quickest program of a graph: the one chosen before, else the best of all."""
    search = _Search(graph, target, options, shared)
    if calls_foreign_code(graph):
        return search.fastest()[0]
    name = choice_key(key, target, options, shared)
    choice = find_choice(name)
    if choice is not None and (compiled := search.chosen(choice)) is not None:
        return compiled
    compiled, choice = search.fastest()
    if choice is not None:
        keep_choice(name, choice)
    return compiled


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """The candidates for the program of a graph: each offers values another share of SBUF."""

    graph: Graph
    target: NeuronCore | Instance
    options: CompileOptions
    shared: bool

    def fastest(self) -> tuple[_Compiled, Choice | None]:
        """Return the quickest program, and which it was; no choice where nodes are refused.

        Its instructions stay in the order of the kernels only where none fits interleaved.
        """
        best: _Timed | None = None
        tried, failure = 0, None
        for interleaved, share in product((True, False), RESIDENT_SHARES):
            if not interleaved and best is not None:
                break
            lowered = self._lowered(interleaved, share)
            if lowered.refused:
                return _Compiled(self.graph, lowered), None
            tried += 1
            try:
                placement = place(lowered.program)
            except CapacityError as error:
                failure = error
                continue
            timing = TimingSimulator(self.target).run(lowered.program, collect=False)
            if best is not None and timing.total_ps >= best.timing.total_ps:
                break
            best = _Timed(timing, interleaved, share, lowered, placement)
        if best is None:
            assert failure is not None
            raise failure
        schedule = schedule_record(best.timing, best.placement, tried, best.share)
        choice = Choice(best.interleaved, best.share, schedule.figures)
        return self._compiled(best.lowered, best.placement, choice), choice

    def chosen(self, choice: Choice) -> _Compiled | None:
        """Return the program of a choice; None if it cannot have come from this graph."""
        lowered = self._lowered(choice.interleaved, choice.share)
        if lowered.refused:
            return None
        try:
            placement = place(lowered.program)
        except CapacityError:
            return None
        return self._compiled(lowered, placement, choice)

    def _lowered(self, interleaved: bool, share: float) -> Lowered:
        core = core_for(self.target)
        budget_bytes = int(core.sbuf_usable_bytes_per_partition * share)
        cast = self.options.autocast
        lowered = lower(self.graph, core, cast, budget_bytes, shared=self.shared)
        if lowered.refused or not interleaved:
            return lowered
        return replace(lowered, program=interleave(lowered.program))

    def _compiled(self, lowered: Lowered, placement: Placement, choice: Choice) -> _Compiled:
        schedule = PassRecord(SCHEDULE, choice.figures)
        records = (lowered.record, program_record(lowered.program), schedule)
        return _Compiled(self.graph, lowered, placement, records)


@dataclass(frozen=True, slots=True, eq=False)
class _Timed:
    """A program with the time it takes and the share of SBUF offered to values."""

    timing: TimingResult
    interleaved: bool
    share: float
    lowered: Lowered
    placement: Placement


def _port(binding: Binding, stands_for: Mapping[Value, Value]) -> Port:
    names = tuple(stands_for[v].name for v in binding.values)
    return Port(binding.tensor, names, tuple(v.shape for v in binding.values), binding.dtype)


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
