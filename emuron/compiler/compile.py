"""`compile_model`: a model on an instance, ready to run, to time and to report."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from emuron.compiler.evaluate import Evaluator, WeightCache
from emuron.compiler.frontends.model import Model
from emuron.compiler.frontends.zoo import open_model
from emuron.compiler.graph import Graph
from emuron.compiler.ops import Autocast
from emuron.compiler.ops.context import NO_AUTOCAST
from emuron.compiler.passes.quantize_weights import weight_passes
from emuron.compiler.passes.tensor_parallel import Partition, partition
from emuron.compiler.pipeline import CompileOptions, apply_passes, compile_optimized
from emuron.compiler.ranks import RankEvaluator, execute_ranks
from emuron.errors import CapacityError, UnknownNameError, UsageError
from emuron.hardware.catalog import instance as find_instance
from emuron.hardware.instance import Instance
from emuron.hardware.price import usd_per_million
from emuron.numerics.backend import Backend, get_backend
from emuron.numerics.rounding import in_dtype
from emuron.runtime.device import Device
from emuron.runtime.executable import Executable, HostOp
from emuron.runtime.latency import Latency
from emuron.runtime.memory import DeviceMemory
from emuron.sim.timing import TimingResult
from emuron.trace.pass_record import PassRecord
from emuron.trace.quantity import bytes_text, share_text
from emuron.trace.report import Cost, Fidelity, Figure, RunReport
from emuron.trace.summary import Summary, summarize
from emuron.trace.trace import Trace

_MEMORIES = ("sbuf_bytes", "psum_bytes")
_MEMORY_NOTE = (
    "On-chip memory is drawn in the order of the program's text, stretched over the run: "
    "engines overlap, so that its time is not that of the other charts."
)
FIDELITIES = ("operator", "instruction")
_PLACES = 3  # named in a warning
PURCHASES = (("on_demand", "On demand"), ("ri_effective", "Reserved (effective)"))


@dataclass(eq=False)
class CompiledModel:
    """A graph compiled for an instance: `tp` logical cores share it, others run copies of it.

    `framework` is the graph as the framework computes it, where `graph` stores weights otherwise.
    """

    graph: Graph
    instance: Instance
    options: CompileOptions
    batch: int
    weights: WeightCache = field(default_factory=WeightCache)
    name: str = ""
    graph_passes: tuple[PassRecord, ...] = ()
    tp: int = 1
    framework: Graph | None = None

    def __post_init__(self) -> None:
        self.name = self.name or self.graph.name
        cores = self.instance.logical_cores
        if not 1 <= self.tp <= cores:
            raise UsageError(
                f"{self.name}: --tp {self.tp} must lie between 1 and the {cores} logical cores of "
                f"{self.instance.name}. {self._over_all_cores()}"
            )

    def _over_all_cores(self) -> str:
        """Return what becomes of a model that was to have more cores than there are."""
        weights, memory = self.graph.parameter_bytes, self.instance.hbm_bytes
        if weights <= memory:
            return "Choose fewer, or a larger instance."
        return (
            f"Over all of them the model does not fit: {bytes_text(weights)} of weights, "
            f"{bytes_text(memory)} of device memory. Choose a larger instance."
        )

    @cached_property
    def parts(self) -> Partition:
        """The graph laid over `tp` ranks."""
        return partition(self.graph, self.tp)

    @cached_property
    def executable(self) -> Executable:
        """The program of one core (of every rank); compiled when first asked for.

        Raises CapacityError if the parameters alone exceed a core's device memory.
        """
        graph = self.graph if self.tp == 1 else self.parts.graph
        self._check_parameters(graph)
        target = self.instance.chip.core if self.tp == 1 else self.instance
        return compile_optimized(graph, target, self.options)

    def _check_parameters(self, graph: Graph) -> None:
        # Casts may halve them, so only what no cast could save is refused before it is compiled.
        cast = self.options.autocast
        needed = sum(
            p.type.elements * min(p.type.dtype.itemsize, cast.operand(p.type.dtype).itemsize)
            for p in graph.parameters
        )
        reserved, limit = self.instance.chip.runtime_reserved_bytes, self.device.hbm_per_core_bytes
        memory = DeviceMemory(needed, graph.state_bytes, 0, reserved, limit)
        if not memory.fits:
            over = "one core" if self.tp == 1 else f"{self.tp} cores"
            raise CapacityError(
                f"{self.name} on {over} of {self.instance.name} {memory}. Choose an instance with "
                "more memory for each core, more cores for the model (--tp), or a smaller model."
            )

    @cached_property
    def device(self) -> Device:
        """The instance it runs on."""
        return Device(self.instance)

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        *,
        fidelity: str = "operator",
        backend: Backend | str = "numpy",
    ) -> dict[str, np.ndarray]:
        """Return the outputs by name with the chip's numerics.

        `fidelity` "operator" evaluates the graph on whole tensors, "instruction" executes the
        program; both give the same bits. Raises UsageError for wrong inputs.
        """
        if fidelity not in FIDELITIES:
            raise UnknownNameError("fidelity", fidelity, FIDELITIES)
        if fidelity == "operator":
            made = get_backend(backend) if isinstance(backend, str) else backend
            if self.tp > 1:
                return RankEvaluator(self.parts, made, self.options.autocast).run(inputs)
            return Evaluator(self.graph, made, self.options.autocast, self.weights).run(inputs)
        stored = self._executed(inputs)
        types = dict(zip(self.graph.output_names, self.graph.outputs, strict=True))
        return {name: in_dtype(array, types[name].type.dtype) for name, array in stored.items()}

    def _executed(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.tp == 1:
            return self.device.run(self.executable, inputs)
        target, options = self.instance, self.options
        return execute_ranks(
            self.parts,
            lambda rank: compile_optimized(self.parts.of_rank(rank), target, options),
            lambda meet: Device(self.instance, meet=meet),
            inputs,
        )

    def reference(
        self, inputs: Mapping[str, np.ndarray], *, backend: Backend | str = "numpy"
    ) -> dict[str, np.ndarray]:
        """Return the outputs without any automatic cast: what the framework itself computes."""
        made = get_backend(backend) if isinstance(backend, str) else backend
        graph = self.framework or self.graph
        return Evaluator(graph, made, NO_AUTOCAST, self.weights).run(inputs)

    @cached_property
    def timing(self) -> TimingResult:
        """When everything happens on one core; raises CapacityError if the model does not fit."""
        self.device.check_fits(self.executable)
        return self.device.time(self.executable)

    @cached_property
    def latency(self) -> Latency:
        """What one inference takes, host included."""
        _ = self.timing
        found = self.device.latency(self.executable)
        return replace(found, workers=self.workers)

    @property
    def workers(self) -> int:
        """Copies of the model that run side by side: data parallel over what `tp` leaves."""
        return self.instance.logical_cores // self.tp if self.tp > 1 else self.instance.cores

    @property
    def memory(self) -> DeviceMemory:
        """What the model takes of each core's device memory."""
        return self.device.memory(self.executable)

    @property
    def passes(self) -> tuple[PassRecord, ...]:
        """What each pass of the compiler did, in order."""
        return (*self.graph_passes, *self.executable.passes)

    @property
    def throughput_per_s(self) -> float:
        """Inferences per second on all cores of the instance."""
        return self.latency.throughput_per_s(self.batch)

    @property
    def memory_per_core_bytes(self) -> int:
        """Device memory that each core needs."""
        return self.memory.total_bytes

    def costs(self) -> tuple[Cost, ...]:
        """Return what a million inferences cost on each purchase option with a known price."""
        costs = []
        for kind, label in PURCHASES:
            price = self.instance.price(kind)
            if price is not None:
                per_million = usd_per_million(self.throughput_per_s, price.usd_per_hour)
                costs.append(Cost(label, price.usd_per_hour, per_million, f"stated {price.stated}"))
        return tuple(costs)

    @cached_property
    def trace(self) -> Trace:
        """The trace of one inference, with on-chip memory over time and the memories' limits."""
        trace = self.timing.trace
        if trace is None:
            raise UsageError(f"{self.graph.name} was timed without a trace")
        core = self.instance.chip.core
        metadata = {
            **trace.metadata,
            "model": self.graph.name,
            "sbuf_peak_bytes": self.executable.sbuf_peak_bytes * core.partitions,
            "psum_peak_bytes": self.executable.psum_peak_bytes * core.partitions,
        }
        return replace(trace, metadata=metadata, counters=self._memory_over_program(trace))

    def _memory_over_program(self, trace: Trace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return the bytes held on chip along the program's text, stretched over the run."""
        if len(self.executable.parts) > 1 or not self.executable.programs:
            return {}  # the rows of several programs have no common scale
        partitions = self.instance.chip.core.partitions
        usage = self.executable.programs[0].placement.usage
        samples = np.array(usage, np.int64).reshape(-1, 3)
        last = max(1, int(samples[-1, 0])) if len(samples) else 1
        times = samples[:, 0] * trace.total_ps // last
        held = (samples[:, column] * partitions for column in (1, 2))
        return {name: (times, values) for name, values in zip(_MEMORIES, held, strict=True)}

    @cached_property
    def usage(self) -> Summary:
        """Where the time of one inference goes, engine by engine and layer by layer."""
        return summarize(self.trace)

    def summary(self) -> dict[str, Any]:
        """Return the figures that every command prints, as plain data."""
        latency = self.latency
        return {
            "model": self.name,
            "graph": self.graph.name,
            "instance": self.instance.name,
            "batch": self.batch,
            "tp": self.tp,
            "workers": self.workers,
            "autocast": str(self.options.autocast.mode),
            "weights": self.options.weights or "as in the model",
            "latency_ms": latency.total_us / 1000,
            "device_ms": latency.device_us / 1000,
            "host_ms": (latency.total_us - latency.device_us) / 1000,
            "throughput_per_s": self.throughput_per_s,
            "memory_per_core_bytes": self.memory_per_core_bytes,
            "memory_per_core_limit_bytes": self.device.hbm_per_core_bytes,
            "memory": {**asdict(self.memory), "verdict": self.memory.verdict},
            "sbuf_peak_bytes_per_partition": self.executable.sbuf_peak_bytes,
            "ops_on_device": self.executable.ops_on_device,
            "flops_on_device": self.executable.flops_on_device,
            "host_ops": [asdict(op) for op in self.executable.host_ops],
            "mfu": self.usage.mfu,
            "mbu": self.usage.mbu,
            "bound_by": self.usage.verdict.bound_by,
            "usd_per_million": {c.purchase: c.usd_per_million for c in self.costs()},
            "instructions": self.timing.instructions,
            "busy_share": {
                queue: busy / max(1, self.timing.total_ps)
                for queue, busy in self.timing.busy_ps.items()
            },
        }

    def report(self, fidelities: tuple[Fidelity, ...] = ()) -> RunReport:
        """Return the report of one inference."""
        latency = self.latency
        costs = {c.purchase: c.usd_per_million for c in self.costs()}
        parts = (
            ("Device", latency.device_us),
            ("Framework launch", latency.launch_us),
            ("Program start and drain", latency.floor_us),
            ("Copies to and from the host", latency.copy_in_us + latency.copy_out_us),
            *((("Operators on the host", latency.host_us),) if latency.host_us else ()),
        )
        parameters = bytes_text(self.executable.parameter_bytes)
        return RunReport(
            title=f"{self.name} on {self.instance.name}",
            subject=self.graph.name,
            instance="",
            trace=self.trace,
            options={
                "autocast": f"{self.options.autocast.mode} {self.options.autocast.dtype}",
                **({"weights": self.options.weights} if self.options.weights else {}),
                "batch": str(self.batch),
                "cores": self._cores_text(),
            },
            latency_ps=round(latency.total_us * 1e6),
            throughput=self.throughput_per_s,
            memory_per_core_bytes=self.memory_per_core_bytes,
            memory_per_core_limit_bytes=self.device.hbm_per_core_bytes,
            usd_per_million_on_demand=costs.get(PURCHASES[0][1]),
            usd_per_million_reserved=costs.get(PURCHASES[1][1]),
            figures=(
                *(Figure(name, f"{us:.1f} µs") for name, us in parts),
                Figure("Parameters", parameters, "in device memory of each core"),
                Figure("Device memory", self.memory.verdict, str(self.memory)),
                self._on_device(),
            ),
            costs=self.costs(),
            notes=() if self.executable.host_ops else (_MEMORY_NOTE,),
            warnings=host_warnings(self.executable.host_ops),
            fidelity=fidelities,
            passes=self.passes,
        )

    def _cores_text(self) -> str:
        if self.tp == 1:
            return f"{self.workers} (data parallel)"
        copies = f"{self.workers} copies" if self.workers > 1 else "one copy"
        return f"{self.tp} (tensor parallel), {copies}"

    def _on_device(self) -> Figure:
        """Return how much of the model runs on the device."""
        made = self.executable
        return Figure(
            "On device",
            f"{share_text(made.ops_on_device)} of operators",
            f"{share_text(made.flops_on_device)} of FLOPs",
        )


def host_warnings(ops: tuple[HostOp, ...]) -> tuple[str, ...]:
    """Return a sentence on each operator that the host computes, with all places it stands at."""
    places: dict[tuple[str, str], list[str]] = {}
    for op in ops:
        places.setdefault((op.name, op.reason), []).append(op.place)
    return tuple(
        f"{name} runs on the host, {_times(len(at))} ({', '.join(dict.fromkeys(at[:_PLACES]))}"
        f"{' …' if len(at) > _PLACES else ''}): {reason}."
        for (name, reason), at in places.items()
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def compile_model(
    model: Any,
    inputs: Any = None,
    *,
    on: str = "inf2.xlarge",
    batch: int = 1,
    sequence: int = 128,
    autocast: str = "matmult",
    autocast_type: str = "bf16",
    task: str = "",
    strict: bool = False,
    tp: int = 1,
    weights: str = "",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> CompiledModel:
    """Compile a model for an instance; `tp` of its logical cores share it (tensor parallelism).

    `model` is a Graph, a Model, a folder, file or zoo name, or a PyTorch or flax module or JAX
    function with its example `inputs`. `shapes` are those of inputs that a file leaves open.
    `weights` "int8" or "fp8" stores those of linear layers in 8 bits (`quantize_weights`).
    Raises UnknownNameError for an instance, ModelFileError for a folder that is no model.
    An op without a kernel runs on the host between device programs; with `strict` it is refused
    with UnsupportedOpError.
    """
    target = find_instance(on)
    cast = Autocast(autocast, autocast_type)  # type: ignore[arg-type]
    options, storing = CompileOptions(cast, strict, weights), weight_passes(weights)
    if isinstance(model, (str, Path)):
        model = open_model(str(model))
    graph = _graph(model, inputs, batch, sequence, task, shapes)
    found = _batch(graph, batch if isinstance(model, Model) else None)
    name = model.name if isinstance(model, Model) else graph.name
    framework, records = apply_passes(graph)
    graph, stored = apply_passes(framework, storing)
    return CompiledModel(
        graph,
        target,
        options,
        found,
        name=name,
        graph_passes=(*records, *stored),
        tp=tp,
        framework=framework,
    )


def _graph(
    model: Any,
    inputs: Any,
    batch: int,
    sequence: int,
    task: str,
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> Graph:
    if isinstance(model, Graph):
        return model
    if isinstance(model, Model):
        options = {} if shapes is None else {"shapes": shapes}
        if options and "shapes" not in inspect.signature(model.graph).parameters:
            raise UsageError(f"{model.name} takes no shapes; give its batch and sequence")
        return model.graph(batch, sequence, task, **options)
    if inputs is None:
        raise UsageError(
            f"a {type(model).__name__} is compiled for example inputs: give compile_model(module, "
            "inputs), or a model folder or name"
        )
    kinds = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    is_torch = "torch" in kinds or not ("flax" in kinds or callable(model))
    live = "torch" if is_torch else "jax"
    found: Graph = import_module(f"emuron.compiler.frontends.{live}").to_graph(model, inputs)
    return found


def _batch(graph: Graph, asked: int | None) -> int:
    """Return the batch that was asked for if an input has it, else that of the first input."""
    sizes = [v.shape[0] for v in graph.inputs if v.shape]
    return asked if asked in sizes else next(iter(sizes), 1)
