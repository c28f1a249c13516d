"""Instructions that DMA engines run: copies between HBM and SBUF, transposes, additions."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.instruction import Cost, DmaCost, In, Instruction, OptIn, Out, instruction
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

DGE_MODES = ("unknown", "swdge", "hwdge", "none")
OOB_MODES = ("error", "skip")
TRIGGERS = ("unknown", "scalar", "sync")  # engines that start a transfer of hardware descriptors
GATHER_STEP = 16  # a gathering transpose takes this many indices at once
DEFAULT_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}  # dma_transpose, by rank


def contiguous_run(pattern: AccessPattern) -> int:
    """Return the elements of the longest contiguous run that tiles an access pattern.

    On chip a run ends with its partition; rows addressed one by one end with their row.
    """
    run, expected = 1, 1
    first = 1 if pattern.buffer.is_on_chip or _row_indirect(pattern) else 0
    for axis in range(len(pattern.shape) - 1, first - 1, -1):
        count, stride = pattern.shape[axis], pattern.strides[axis]
        if count == 1:
            continue
        if stride != expected:
            break
        run *= count
        expected = stride * count
    return run


def _row_indirect(pattern: AccessPattern) -> bool:
    return pattern.indirection is not None and pattern.indirection.kind == "vector"


def copy_cost(
    core: NeuronCore,
    dst: AccessPattern,
    sources: tuple[AccessPattern, ...],
    rate: float = 1.0,
    trigger: str = "static",
) -> Cost:
    """Return the cost of moving `sources` to `dst`: one descriptor for each contiguous run.

    A run is contiguous on both sides and split at the payload limit of a descriptor.
    """
    total, descriptors, shortest, hbm = 0, 0, core.dma.descriptor_max_bytes, 0
    jumps = hbm_jumps(dst)
    for src in sources:
        size = max(src.dtype.itemsize, dst.dtype.itemsize)
        run = min(contiguous_run(src), contiguous_run(dst))
        run_bytes = run * size
        pieces = ceil(run_bytes / core.dma.descriptor_max_bytes)
        total += src.size * size
        descriptors += src.size // run * pieces
        shortest = min(shortest, run_bytes)
        hbm += 0 if src.buffer.is_on_chip else src.size * src.dtype.itemsize
        jumps += hbm_jumps(src)
    hbm += 0 if dst.buffer.is_on_chip else dst.size * dst.dtype.itemsize
    partitions = partitions_on_chip(dst, *sources)
    return Cost(dma=DmaCost(total, descriptors, shortest, hbm, jumps, partitions, rate, trigger))


def hbm_jumps(pattern: AccessPattern) -> int:
    """Return how many contiguous runs of an access pattern in HBM follow its first."""
    return 0 if pattern.buffer.is_on_chip else pattern.size // contiguous_run(pattern) - 1


def partitions_on_chip(*patterns: AccessPattern) -> int | None:
    """Return the partitions of the first pattern that is on chip, None if none is."""
    return next((p.partitions for p in patterns if p.buffer.is_on_chip), None)


def trigger_of(copy: DmaCopy | DmaTranspose) -> str:
    """Return how the descriptors of a transfer come about: static, hwdge or swdge.

    Row indices need software descriptors (NKI dma_copy); "unknown" is static otherwise, unless a
    register shifts the addresses, which a static ring cannot.
    """
    if _row_indirect(copy.dst) or _row_indirect(copy.src) or copy.dge_mode == "swdge":
        return "swdge"
    if copy.dge_mode == "hwdge":
        return "hwdge"
    dynamic = copy.dst.indirection is not None or copy.src.indirection is not None
    return "swdge" if dynamic else "static"


@instruction(engine="dma", nki="dma_copy", source="ISA32 dma_copy; DGE; DMAG; cost DMAO")
class DmaCopy(Instruction):
    """dst = src between HBM and SBUF; equal element counts, paired in row-major order.

    Different dtypes convert through fp32. Either side may be indirect; with `oob_mode="skip"` rows
    whose index is out of range are neither read nor written.
    """

    dst: Out
    src: In
    priority: int | None = None
    oob_mode: str = "error"
    dge_mode: str = "unknown"
    engine: str = "unknown"

    @property
    def raw(self) -> bool:
        """Equal dtypes are moved bit by bit."""
        return self.dst.dtype == self.src.dtype

    def check(self, core: NeuronCore) -> None:
        """Refuse PSUM, unequal sizes, and descriptor modes that cannot do the transfer."""
        for name in ("dst", "src"):
            limits.check_buffer(self, core, name, limits.SBUF_OR_HBM)
        if self.dst.size != self.src.size:
            raise self.refuse(
                f"dst {list(self.dst.shape)} has {self.dst.size} elements, "
                f"src {list(self.src.shape)} has {self.src.size}",
                "Give both sides the same number of elements.",
            )
        limits.check_operator(self, "oob_mode", OOB_MODES)
        limits.check_operator(self, "dge_mode", DGE_MODES)
        if not self.raw and "packed" in (self.dst.dtype.kind, self.src.dtype.kind):
            raise self.refuse(
                f"it cannot convert {self.src.dtype} to {self.dst.dtype}",
                "Packed types are copied unchanged.",
            )
        _check_priority(self, core, self.priority)
        self._check_indirection()
        self._check_descriptors(core)

    def _check_indirection(self) -> None:
        if _row_indirect(self.dst) and _row_indirect(self.src):
            raise self.refuse("dst and src both have row indices", "Copy in two steps.")
        for name in ("dst", "src"):
            pattern: AccessPattern = getattr(self, name)
            if _row_indirect(pattern) and pattern.buffer.is_on_chip:
                raise self.refuse(f"{name} has row indices and lies in SBUF", "Index HBM rows.")

    def _check_descriptors(self, core: NeuronCore) -> None:
        if self.dge_mode != "hwdge":
            return
        if not core.features.hwdge:
            raise self.refuse(
                f"dge_mode=hwdge does not exist on NeuronCore-{core.version}",
                "Use dge_mode=unknown.",
            )
        if not self.raw:
            raise self.refuse(
                f"dge_mode=hwdge with src {self.src.dtype} and dst {self.dst.dtype}",
                "Hardware descriptors do not convert: give both the same dtype.",
            )
        if _row_indirect(self.dst) or _row_indirect(self.src):
            raise self.refuse("dge_mode=hwdge with row indices", "Use dge_mode=swdge.")
        limits.check_operator(self, "engine", TRIGGERS)

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the source."""
        return src

    def cost(self, core: NeuronCore) -> Cost:
        """Return bytes and descriptors of the transfer (hardware.md §2.8)."""
        return copy_cost(core, self.dst, (self.src,), trigger=trigger_of(self))


def _check_priority(transfer: Instruction, core: NeuronCore, priority: int | None) -> None:
    if priority is None:
        return
    classes = core.dma.qos_classes
    if not 0 <= priority < classes:
        raise transfer.refuse(
            f"priority={priority} on NeuronCore-{core.version}",
            f"It is 0 to {classes - 1}." if classes else "Leave it out: NeuronCore-v4 has it.",
        )


@instruction(engine="dma", nki="dma_transpose", source="ISA32 dma_transpose; cost A3")
class DmaTranspose(Instruction):
    """dst = src with its axes permuted: 2-D (1, 0), 3-D (2, 1, 0), 4-D (3, 1, 2, 0).

    With row indices on src the first dimension counts the gathered rows.
    """

    dst: Out
    src: In
    axes: tuple[int, ...] | None = None
    priority: int | None = None
    dge_mode: str = "unknown"
    oob_mode: str = "error"

    @property
    def raw(self) -> bool:
        """A transpose moves stored bits."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse PSUM, other permutations, unequal dtypes and shapes that do not correspond."""
        for name in ("dst", "src"):
            limits.check_buffer(self, core, name, limits.SBUF_OR_HBM)
        limits.check_same_dtype(self, "dst", "src")
        rank = len(self.src.shape)
        default = DEFAULT_AXES.get(rank)
        if default is None or self.axes not in (None, default):
            raise self.refuse(
                f"axes={self.axes} of a {rank}-dimensional src",
                "It permutes 2-D (1, 0), 3-D (2, 1, 0) and 4-D (3, 1, 2, 0) only.",
            )
        expected = tuple(self.src.shape[axis] for axis in default)
        if self.dst.shape != expected:
            raise self.refuse(
                f"dst is {list(self.dst.shape)}", f"The transpose of src is {list(expected)}."
            )
        limits.check_operator(self, "oob_mode", OOB_MODES)
        limits.check_operator(self, "dge_mode", DGE_MODES)
        _check_priority(self, core, self.priority)
        if _row_indirect(self.src):
            self._check_gather(core)
        elif self.dge_mode == "hwdge":
            self._check_hardware_descriptors(core)

    def _check_hardware_descriptors(self, core: NeuronCore) -> None:
        if not core.features.hwdge:
            raise self.refuse(
                f"dge_mode=hwdge does not exist on NeuronCore-{core.version}",
                "Use dge_mode=unknown.",
            )
        self._check_tile(core, "dge_mode=hwdge")
        shape = self.src.shape
        whole = shape[0] == GATHER_STEP
        parts = GATHER_STEP % shape[0] == 0 and shape[0] * shape[-2] % GATHER_STEP == 0
        if not (whole if len(shape) == 2 else parts):
            raise self.refuse(
                f"dge_mode=hwdge with src {list(shape)}",
                f"A 2-D src has {GATHER_STEP} rows; of others dimension 0 divides {GATHER_STEP}, "
                f"and its product with the last but one is a multiple of {GATHER_STEP}.",
            )

    def _check_tile(self, core: NeuronCore, what: str) -> None:
        limit = core.limits.dma_transpose_max_last_dim
        if self.src.dtype.itemsize != 2 or self.src.shape[-1] > limit:
            raise self.refuse(
                f"{what} with src {list(self.src.shape)} {self.src.dtype}",
                f"It needs a 2-byte dtype and a last dimension of at most {limit}.",
            )

    def _check_gather(self, core: NeuronCore) -> None:
        """Refuse what the gathering transpose cannot do (ISA32, DMA indirect transpose)."""
        limits.check_since(self, core, 3)
        self._check_tile(core, "row indices")
        if self.dge_mode not in ("unknown", "swdge"):
            raise self.refuse(
                f"dge_mode={self.dge_mode} with row indices", "Use dge_mode=unknown or swdge."
            )
        assert self.src.indirection is not None
        shape, index = self.src.shape, self.src.indirection.index
        rows, columns = index.partitions, index.free_size
        most = core.partitions
        legal = rows == most if columns > 1 else GATHER_STEP <= rows <= most
        if not legal or rows % GATHER_STEP or index.dtype.itemsize != 4:
            raise self.refuse(
                f"the row indices are {list(index.shape)} {index.dtype}",
                f"They are 32-bit integers in a multiple of {GATHER_STEP} partitions, in {most} "
                "where there are several columns.",
            )
        if shape[0] % GATHER_STEP or (len(shape) == 4 and 1 not in shape[1:3]):
            raise self.refuse(
                f"row indices with src {list(shape)}",
                f"It gathers a multiple of {GATHER_STEP} rows; of a 4-D src dimension 1 or 2 is 1.",
            )

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the permuted source."""
        return ops.transpose(ops.reshape(src, self.src.shape), DEFAULT_AXES[len(self.src.shape)])

    def cost(self, core: NeuronCore) -> Cost:
        """Return a copy at the rate of the transpose (hardware.md §1.4)."""
        dma = core.dma
        if not core.features.dma_transpose:
            rate = dma.transpose_emulated_rate
        elif self.src.buffer.is_on_chip:
            rate = dma.transpose_sbuf_rate
        else:
            rate = dma.transpose_hbm_rate
        moved = prod(self.src.shape) * self.src.dtype.itemsize
        # Rows are read as they lie; the transposition happens on the way.
        run = contiguous_run(self.src) * self.src.dtype.itemsize
        pieces = ceil(run / dma.descriptor_max_bytes)
        hbm = moved * ((not self.src.buffer.is_on_chip) + (not self.dst.buffer.is_on_chip))
        descriptors = moved // run * pieces
        element = min(run, dma.descriptor_max_bytes)
        trigger = trigger_of(self)
        jumps = hbm_jumps(self.src) + hbm_jumps(self.dst)
        partitions = partitions_on_chip(self.dst, self.src)
        return Cost(
            dma=DmaCost(moved, descriptors, element, hbm, jumps, partitions, rate or 1.0, trigger)
        )


@instruction(engine="dma", nki="dma_compute", source="ISA32 dma_compute; cost A4")
class DmaCompute(Instruction):
    """dst = the sum of up to 16 sources, added in fp32 in their order.

    `src0` to `src15` are NKI's list `srcs`. For a read-modify-write one source is the same
    indirect view as dst.
    """

    dst: Out
    src0: In
    src1: OptIn = None
    src2: OptIn = None
    src3: OptIn = None
    src4: OptIn = None
    src5: OptIn = None
    src6: OptIn = None
    src7: OptIn = None
    src8: OptIn = None
    src9: OptIn = None
    src10: OptIn = None
    src11: OptIn = None
    src12: OptIn = None
    src13: OptIn = None
    src14: OptIn = None
    src15: OptIn = None
    reduce_op: str = "add"
    scales: tuple[float, ...] | None = None
    unique_indices: bool = True
    oob_mode: str = "error"

    @property
    def sources(self) -> tuple[AccessPattern, ...]:
        """The sources that are given."""
        given = (getattr(self, name) for name, _ in self.operands[1:])
        return tuple(src for src in given if src is not None)

    def check(self, core: NeuronCore) -> None:
        """Refuse PSUM, unequal sizes and reductions other than a plain sum."""
        for name, _ in self.operands:
            limits.check_buffer(self, core, name, limits.SBUF_OR_HBM)
        limits.check_operator(self, "reduce_op", ("add",))
        limits.check_operator(self, "oob_mode", OOB_MODES)
        for src in self.sources:
            if src.size != self.dst.size:
                raise self.refuse(
                    f"a source has {src.size} elements and dst {self.dst.size}",
                    "Give all the same number of elements.",
                )
        indirect = any(_row_indirect(p) for p in (self.dst, *self.sources))
        if indirect and (len(self.sources) != 2 or not self.unique_indices):
            raise self.refuse(
                f"row indices with {len(self.sources)} sources, unique_indices="
                f"{self.unique_indices}",
                "Add two sources, one of them the view of dst, with unique_indices=True.",
            )
        if self.scales is not None and any(scale != 1.0 for scale in self.scales):
            raise self.refuse(f"scales={self.scales}", "Scales other than 1.0 are not supported.")

    def compute(self, ops: Any, *sources: Any) -> Any:
        """Return the sum."""
        total = ops.reshape(sources[0], self.dst.shape)
        for src in sources[1:]:
            if src is not None:
                total = ops.add(total, ops.reshape(src, self.dst.shape))
        return total

    def cost(self, core: NeuronCore) -> Cost:
        """Return the copies of all sources, at the rate of an inline computation (A4)."""
        indirect = any(_row_indirect(p) for p in (self.dst, *self.sources))
        trigger = "swdge" if indirect else "static"
        # The rate is that of two sources against a copy of one.
        return copy_cost(core, self.dst, self.sources, 2 * core.dma.compute_rate, trigger)
