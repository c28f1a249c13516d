"""What a NeuronCore is: engines, memories, limits and the constants of its timing.

Instances come from `data/cores/*.toml`, where each figure has its source. Times are in the unit
of the field's name; `cycles` are cycles of the engine that issues the instruction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emuron.errors import HardwareLimitError, UnknownNameError
from emuron.hardware.schema import Alternative


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine of a NeuronCore: its clock and the elements it takes a cycle."""

    name: str
    clock_ghz: float
    elements_per_cycle: int | None = None  # lanes times width, 32-bit types
    elements_per_cycle_16bit: int | None = None  # where 16-bit types are faster

    def ps(self, cycles: float) -> int:
        """Return the time of `cycles` cycles of this engine in picoseconds, rounded."""
        return round(cycles * 1000 / self.clock_ghz)


@dataclass(frozen=True, slots=True)
class Throttle:
    """dI/dt protection of the tensor engine after idling (trn2, trn3)."""

    initial_utilisation: float  # fraction of the full rate after idling
    ramp_us: float  # time from the initial to the full rate
    window_us: float  # window over which utilisation is judged
    rearm_below_utilisation: float  # below this over a window, the limit returns


@dataclass(frozen=True, slots=True)
class Timing:
    """Constants of instruction timing."""

    min_issue_cycles: int  # MIN_II: floor of an instruction
    dynamic_min_cycles: int  # floor where an address comes from a register
    gpsimd_start_cycles: int  # start of a GpSimd instruction
    dependent_overhead_cycles: int  # when each instruction needs its predecessor's result
    access_setup_cycles: int  # set-up of an SBUF or PSUM access, partly hidden
    accumulator_read_cycles: int  # reading an engine's accumulator out
    max8_fixed_cycles: int  # fixed part of max8, find_index8, match_replace8
    gather_cycles_per_element: int  # nc_n_gather
    search_cycles_per_element: int  # nonzero_with_count, sequence_bounds
    topk_cycles_per_element: int  # topk, of the elements searched; one more for each one found
    local_gather_index_bytes: int  # the two constants of local_gather's published formula
    local_gather_word_bytes: int
    branch_cycles: int  # sequencer branch
    queue_depth: int  # instructions an engine queue holds
    matmul_init_cycles: int  # floor of one MultiplyMoving
    matmul_bubble_cycles: float  # lost between two matmuls
    fp32_passes: int  # passes of a float32 matmul
    load_stationary_speedup: int  # columns of LoadStationary per cycle
    load_stationary_exposed_cycles: int  # added where the load is not hidden
    tensor_latency_ns: float  # pipeline latency: end of busy to result visible
    vector_latency_ns: float
    scalar_latency_ns: float
    gpsimd_latency_ns: float
    sync_latency_ns: float
    semaphore_ns: float  # engine to engine
    semaphore_instruction_ns: float  # an instruction that only waits or signals
    act_table_load_ns: float  # activation-table load of the scalar engine
    register_load_ns: float  # load of a sequencer register from memory
    core_barrier_ns: float  # barrier of the two cores of an LNC-2 pair
    neff_floor_lnc1_us: float  # launch and drain of a program on the device
    neff_floor_lnc2_us: float
    throttle: Throttle | None = None

    def latency_ns(self, engine: str) -> float:
        """Return the pipeline latency of `engine` in ns."""
        return float(getattr(self, f"{engine}_latency_ns"))

    def neff_floor_us(self, lnc: int) -> float:
        """Return the launch floor in us of a program on `lnc` physical cores (1 or 2)."""
        return self.neff_floor_lnc1_us if lnc == 1 else self.neff_floor_lnc2_us


@dataclass(frozen=True, slots=True)
class DmaSpec:
    """The DMA engines that belong to one NeuronCore, and their costs."""

    engines: int
    queues_per_engine: int
    partitions_per_engine: int
    engine_theory_gb_per_s: float
    engine_effective_gb_per_s: float  # documented, 1 GB/s = 1 byte/ns
    engine_load_gb_per_s: float  # measured, 32 KiB HBM to SBUF; used for timing
    engine_store_gb_per_s: float  # measured, 32 KiB SBUF to HBM; used for timing
    core_gb_per_s: float  # cap of all engines of the core together; used for timing
    fixed_ns: float  # trigger to consumer, less the transfer itself
    fixed_before_ns: float  # trigger to the first byte
    fixed_after_ns: float  # last byte to the start of a dependent instruction
    engine_skew_max_ns: float  # spread of the engines' starts
    element_min_ns: float  # floor of one element of `element_full_bytes` or more
    element_full_bytes: int
    small_element_min_ns: float  # floor of one smaller element
    hbm_jump_ns: float  # added where an engine's next element does not follow in HBM
    semaphore_increment_ns: float  # spacing of the completion increments
    semaphore_write_ns: float  # the 4-byte completion write itself
    completion_increment: int  # what a finished transfer adds to its semaphore
    trigger_ns: float  # first of the instruction pair that triggers a static ring
    trigger_second_ns: float
    gpsimd_trigger_ns: float  # GpSimd instruction that triggers software descriptors
    swdge_extra_ns: float  # added latency of software descriptors
    descriptor_bytes: int
    descriptor_max_bytes: int  # payload limit of one descriptor
    descriptors_per_packet: int
    descriptor_prefetch: int
    ring_max_descriptors: int
    packet_bytes: int
    collective_packet_bytes: int
    recommended_bytes_per_partition: int
    saturating_bytes_per_partition: int
    compute_rate: float  # dma_compute relative to a copy
    transpose_emulated_rate: float | None = None  # where the hardware has no DMA transpose
    transpose_hbm_rate: float | None = None  # HBM to SBUF, relative to a copy
    transpose_sbuf_rate: float | None = None  # SBUF to SBUF, relative to a copy
    hwdge_ns: float | None = None  # hardware descriptor generation, per DMA instruction
    hwdge_blocks: int = 0
    qos_classes: int = 0
    gpsimd_gb_per_s: float | None = None  # the GpSimd processors' own engines, both directions


@dataclass(frozen=True, slots=True)
class VectorRates:
    """Cycles per element and speed-ups of the vector (and scalar) engine, against one a cycle."""

    perf_dtypes: tuple[str, ...]  # types with performance modes; empty: no such modes
    copy_contiguous_speedup: int  # tensor_copy, tensor_scalar: both in SBUF, contiguous
    copy_strided_speedup: int  # both in SBUF, innermost not contiguous
    copy_psum_speedup: int  # one side in PSUM, contiguous
    two_operand_cycles: float  # tensor_tensor, per element: both in SBUF, any type
    two_operand_fast_cycles: float  # both in SBUF, all operands of fast types, contiguous
    two_operand_fast_dtypes: tuple[str, ...]
    two_operand_fast_ops: tuple[str, ...]  # empty: any operator
    two_operand_psum_cycles: float  # one operand in PSUM
    scalar_tensor_tensor_cycles: float
    scalar_tensor_tensor_fast_cycles: float  # bfloat16, subtract then multiply, even size
    predicated_cycles: float  # copy_predicated, select_reduce: both in SBUF
    scan_cycles: float
    reciprocal_cycles: float
    bn_aggr_cycles_per_3: float  # bn_aggr, for three elements
    reduce_bf16_speedup: int  # tensor_reduce add or max of bfloat16
    memset_zero_16bit_speedup: int
    scalar_copy_16bit_speedup: int  # tensor_copy, tensor_scalar on the scalar engine
    exponential_speedup: int = 1
    quantize_mx_speedup: int = 1
    rand2_speedup: int = 1


@dataclass(frozen=True, slots=True)
class StartPartitionRule:
    """Start partitions allowed to an access of at most `max_partitions` partitions."""

    max_partitions: int
    allowed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What instructions may not exceed."""

    start_partitions: tuple[StartPartitionRule, ...]
    access_max_dims: int
    inner_stride_full_rate_bytes: int  # from this innermost stride on, half rate
    sbuf_max_free_elements: int
    psum_max_free_elements: int
    transpose_tile: int  # vector-engine transpose
    shuffle_quadrant: int  # partitions of a shuffle
    bn_stats_max: int
    max8_min: int
    max8_max: int
    local_gather_max_indices: int
    range_select_max_index: int
    topk_min: int
    topk_below: int
    topk_k_below: int
    dma_compute_max_sources: int
    dma_transpose_max_last_dim: int
    custom_gpsimd_transfer_bytes: int  # sendrecv through GpSimd DMA, 32-bit types, per partition
    vector_generator_words: int  # state of the random number generator of one lane
    gpsimd_generator_words: int
    registers_per_engine: int
    semaphores: int
    events: int
    row_tiles: tuple[int, ...]  # tensor-engine tile sizes
    column_tiles: tuple[int, ...]
    fp8_max: float | None = None  # largest finite value of the usual 8-bit float
    double_row_k: int | None = None  # contraction of an FP8 double-row matmul
    double_row_dtypes: tuple[str, ...] = ()
    mx_k: int | None = None  # contraction of a microscaled matmul
    mx_group: int | None = None
    mx_partition_multiple: int | None = None

    def generator_words(self, engine: str) -> int:
        """Return the words of a lane's generator state on the vector or gpsimd engine."""
        return self.vector_generator_words if engine == "vector" else self.gpsimd_generator_words

    def start_partitions_for(self, partitions: int) -> tuple[int, ...]:
        """Return the start partitions allowed to an access of `partitions` partitions."""
        for rule in self.start_partitions:
            if partitions <= rule.max_partitions:
                return rule.allowed
        most = self.start_partitions[-1].max_partitions
        raise HardwareLimitError(
            f"an access spans {partitions} partitions; the hardware has {most}: split it"
        )


@dataclass(frozen=True, slots=True)
class Features:
    """What a generation can do."""

    gpsimd: bool
    stochastic_rounding: bool
    sbuf_vector_gpsimd_exclusive: bool  # may not access SBUF at the same time
    psum_vector_scalar_exclusive: bool  # may not access PSUM at the same time
    psum_bank_conflicts: bool  # two engines on one bank wait for each other
    vector_gpsimd_shared_bus: bool  # the vector engine's performance modes take both
    tile_32x32: bool  # row and column tile may both be 32
    transpose_bit_exact: bool  # tensor-engine transpose keeps NaN and Inf
    fp32_transpose_speedup: int
    background_transpose_speedup: int
    scalar_copy_bit_exact: bool
    scalar_tensor_copy: bool  # tensor_copy exists on the scalar engine
    hwdge: bool
    dma_transpose: bool
    double_row: bool
    mx: bool
    psum_bf16_accumulate: bool
    indirect_operands: bool
    sbuf_read_add_write: bool
    prng: tuple[str, ...] = ()
    sparsity: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NeuronCore:
    """One physical NeuronCore of a generation; equal by value."""

    version: str  # "v1" to "v4"
    aliases: tuple[str, ...]
    engines: tuple[Engine, ...]
    partitions: int
    sbuf_bytes_per_partition: int
    sbuf_usable_bytes_per_partition: int
    psum_bytes_per_partition: int
    psum_banks: int
    psum_bank_bytes: int
    pe_rows: int
    pe_cols: int
    moving_max: int  # columns of a moving operand, float32 destination
    moving_max_bf16: int  # the same, bfloat16 destination
    stationary_max: int  # columns of a stationary operand
    dtypes: tuple[str, ...]
    matmul_dtypes: tuple[str, ...]
    psum_dtypes: tuple[str, ...]
    activation_any_table: tuple[str, ...]  # functions present in every activation table
    activation_tables: tuple[tuple[str, ...], ...]  # functions that share a table
    timing: Timing
    dma: DmaSpec
    vector: VectorRates
    limits: Limits
    features: Features
    nc_version: int | None = None  # the number NKI knows the generation by
    int8_matmul_speedup: int | None = None
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    alternatives: tuple[Alternative, ...] = field(default=(), compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((NeuronCore, self.version))

    @property
    def sbuf_bytes(self) -> int:
        """SBUF of the core in bytes."""
        return self.partitions * self.sbuf_bytes_per_partition

    @property
    def psum_bytes(self) -> int:
        """PSUM of the core in bytes."""
        return self.partitions * self.psum_bytes_per_partition

    def engine(self, name: str) -> Engine:
        """Return the engine called `name`; raise UnknownNameError with the core's engines."""
        for engine in self.engines:
            if engine.name == name:
                return engine
        known = [engine.name for engine in self.engines]
        raise UnknownNameError(f"engine of NeuronCore-{self.version}", name, known)

    def activation_table(self, function: str) -> str | None:
        """Return the name of the table that holds `function`, None if every table does.

        A table is named for its first function; a function of no group has a table of its own.
        """
        if function in self.activation_any_table:
            return None
        for functions in self.activation_tables:
            if function in functions:
                return functions[0]
        return function

    def tensor_tflops(self, dtype: str) -> float:
        """Return the tensor engine's peak for `dtype` in TFLOPS (two operations a MAC).

        Raises HardwareLimitError for a type that it does not multiply.
        """
        if dtype not in self.matmul_dtypes:
            raise HardwareLimitError(
                f"the tensor engine of NeuronCore-{self.version} does not multiply {dtype}; "
                f"it multiplies {', '.join(self.matmul_dtypes)}"
            )
        limits = self.limits
        dense = 2 * self.pe_rows * self.pe_cols * self.engine("tensor").clock_ghz / 1000
        if dtype == "float32":
            return dense / self.timing.fp32_passes
        if dtype.endswith("_x4") and limits.mx_k:
            return dense * limits.mx_k / self.pe_rows
        if dtype in limits.double_row_dtypes and limits.double_row_k:
            return dense * limits.double_row_k / self.pe_rows
        if dtype == "int8" and self.int8_matmul_speedup:
            return dense * self.int8_matmul_speedup
        return dense

    def source(self, path: str) -> str:
        """Return where the figure at the dotted `path` is stated."""
        known = dict(self.sources)
        if path not in known:
            raise UnknownNameError(f"figure of NeuronCore-{self.version}", path, list(known))
        return known[path]
