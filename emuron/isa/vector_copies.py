"""Instructions that copy, fill and choose: on the vector engine, some also on others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.instruction import Cost, In, InOut, Instruction, Out, Scalar, instruction
from emuron.isa.tensor import AccessPattern
from emuron.isa.vector_engine import elementwise_cycles

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore


@instruction(
    engine=("vector", "scalar", "gpsimd"),
    nki="tensor_copy",
    source="ISA32 tensor_copy; cost ISA26, A3",
)
class TensorCopy(Instruction):
    """dst[P, N] = src[P, N]; bit exact when the dtypes are equal, else through fp32."""

    dst: Out
    src: In
    engine: str = "unknown"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else vector."""
        return "vector" if self.engine == "unknown" else self.engine

    @property
    def raw(self) -> bool:
        """Equal dtypes are copied bit by bit."""
        return self.dst.dtype == self.src.dtype

    def check(self, core: NeuronCore) -> None:
        """Refuse unequal sizes, and engines that cannot copy."""
        limits.check_engine(self, core, "dst", "src")
        for name in ("dst", "src"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "src")
        if self.engine_name == "scalar" and not core.features.scalar_tensor_copy:
            raise self.refuse(
                f"the scalar engine of NeuronCore-{core.version} has no tensor_copy",
                "Use activation with op=copy, or engine=vector.",
            )
        if not self.raw and "packed" in (self.dst.dtype.kind, self.src.dtype.kind):
            raise self.refuse(
                f"it cannot convert {self.src.dtype} to {self.dst.dtype}",
                "Packed types are copied unchanged.",
            )

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the source."""
        return src

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N / performance mode)."""
        return Cost(cycles=elementwise_cycles(core, self.engine_name, self.dst, self.src))


@instruction(
    engine="vector", nki="tensor_copy_predicated", source="ISA32 tensor_copy_predicated; cost ISA26"
)
class TensorCopyPredicated(Instruction):
    """dst[P, N] = src where predicate is not 0 (or is 0, with reverse_pred), else unchanged."""

    dst: InOut
    src: Scalar
    predicate: In
    reverse_pred: bool = False

    @property
    def stored(self) -> tuple[str, ...]:
        """Elements of a tile are copied bit by bit; a number is converted."""
        return ("dst", "src") if isinstance(self.src, AccessPattern) else ()

    def check(self, core: NeuronCore) -> None:
        """Refuse wrong dtypes, unequal sizes and two inputs in PSUM."""
        for name in ("dst", "src", "predicate"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "predicate", "src")
        limits.check_same_dtype(self, "dst", "src")
        limits.check_dtype(self, "predicate", ("uint8", "uint16", "uint32", "bool_"))
        limits.check_not_both_in_psum(self, "src", "predicate")

    def compute(self, ops: Any, dst: Any, src: Any, predicate: Any) -> Any:
        """Return the chosen elements."""
        chosen = ops.compare("eq" if self.reverse_pred else "ne", predicate, 0.0)
        return ops.where(chosen, src, dst)

    def cost(self, core: NeuronCore) -> Cost:
        """Return N with one input in PSUM, else the rate of two SBUF inputs (ISA v2.26)."""
        split = limits.in_psum(self.src) or limits.in_psum(self.predicate)
        rate = 1.0 if split else core.vector.predicated_cycles
        return Cost(cycles=limits.stream_cycles(core, self.dst.free_size * rate))


@instruction(engine=("vector", "gpsimd"), nki="memset", source="ISA32 memset; cost ISA26")
class Memset(Instruction):
    """dst[P, N] = value."""

    dst: Out
    value: float
    engine: str = "unknown"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else vector."""
        return "vector" if self.engine == "unknown" else self.engine

    @property
    def raw(self) -> bool:
        """Packed types hold zero bits only."""
        return self.dst.dtype.kind == "packed"

    def check(self, core: NeuronCore) -> None:
        """Refuse a value that is not of the destination's kind."""
        limits.check_engine(self, core, "dst")
        limits.check_tile(self, core, "dst")
        kind = self.dst.dtype.kind
        if kind == "packed" and self.value != 0:
            raise self.refuse(f"value={self.value} in {self.dst.dtype}", "Only 0 is possible.")
        if kind in ("int", "uint"):
            low, high = int(self.dst.dtype.min), int(self.dst.dtype.max)
            if not float(self.value).is_integer() or not low <= self.value <= high:
                raise self.refuse(
                    f"value={self.value} does not fit {self.dst.dtype}",
                    f"Give an integer from {low} to {high}.",
                )

    def compute(self, ops: Any) -> Any:
        """Return the value; the simulator spreads it over dst."""
        return int(self.value) if self.dst.dtype.is_integer else self.value

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N/2) for zeros of a 16-bit float, else max(MIN_II, N) (ISA v2.26)."""
        elements: float = self.dst.free_size
        if self.engine_name == "gpsimd":
            return Cost(cycles=core.timing.gpsimd_start_cycles + elements)
        if self.value == 0 and self.dst.dtype in ("bfloat16", "float16"):
            elements /= core.vector.memset_zero_16bit_speedup
        return Cost(cycles=limits.stream_cycles(core, elements))


@instruction(engine="vector", nki="nc_stream_shuffle", source="ISA32 nc_stream_shuffle; cost ISA26")
class NcStreamShuffle(Instruction):
    """dst[32q + i] = src[32q + mask[i]] for each quadrant q; 255 leaves a row of dst unchanged."""

    dst: InOut
    src: In
    shuffle_mask: tuple[int, ...]

    @property
    def unread(self) -> tuple[str, ...]:
        """Dst, where the mask keeps none of its rows."""
        return () if KEEP_ROW in self.shuffle_mask else ("dst",)

    @property
    def raw(self) -> bool:
        """A shuffle moves stored bits."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse masks that do not fit a quadrant, and unequal dtypes or sizes."""
        quadrant = core.limits.shuffle_quadrant
        for name in ("dst", "src"):
            limits.check_tile(self, core, name)
        limits.check_same_dtype(self, "dst", "src")
        if self.dst.free_size != self.src.free_size:
            raise self.refuse(
                f"dst has {self.dst.free_size} elements a partition, src {self.src.free_size}",
                "Make them equal.",
            )
        if len(self.shuffle_mask) != quadrant:
            raise self.refuse(
                f"shuffle_mask has {len(self.shuffle_mask)} entries",
                f"Give {quadrant}, one for each partition of a quadrant.",
            )
        bad = [m for m in self.shuffle_mask if m != KEEP_ROW and not 0 <= m < quadrant]
        if bad:
            raise self.refuse(
                f"shuffle_mask holds {bad[0]}", f"Entries are 0 to {quadrant - 1}, or {KEEP_ROW}."
            )

    def compute(self, ops: Any, dst: Any, src: Any) -> Any:
        """Return the shuffled rows."""
        quadrant, rows = len(self.shuffle_mask), self.dst.partitions
        picked = []
        for row in range(rows):
            entry = self.shuffle_mask[row % quadrant]
            origin = row // quadrant * quadrant + entry
            if entry == KEEP_ROW or origin >= self.src.partitions:
                picked.append(dst[row : row + 1])
            else:
                picked.append(src[origin : origin + 1])
        return ops.concatenate(picked, 0)

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N) (ISA v2.26)."""
        return Cost(cycles=limits.stream_cycles(core, self.dst.free_size))


KEEP_ROW = 255  # a mask entry that leaves the row unchanged (nki.isa.nc_stream_shuffle)
