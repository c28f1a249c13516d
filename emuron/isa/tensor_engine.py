"""Instructions of the tensor engine: matrix multiplication and transposition."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from emuron.errors import HardwareLimitError
from emuron.isa import limits
from emuron.isa.instruction import Cost, In, InOut, Instruction, Out, instruction
from emuron.isa.tensor import AccessPattern, MemoryRegion

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

FP32_TYPES = ("float32", "tfloat32")  # four passes, and never mixed with narrower operands
PERF_MODES = ("none", "double_row")
DOUBLE_ROW_TYPES = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")


class Product(Protocol):
    """An instruction that multiplies [K, M] by [K, N] into [M, N] in PSUM."""

    @property
    def dst(self) -> AccessPattern:
        """The destination [M, N]."""

    @property
    def moving(self) -> AccessPattern:
        """The moving operand."""

    @property
    def tile_position(self) -> tuple[int, ...] | None:
        """First row and column of the part of the array."""

    @property
    def tile_size(self) -> tuple[int, ...] | None:
        """Rows and columns of the part of the array."""

    @property
    def double_row(self) -> bool:
        """Whether two rows of each partition are contracted at once."""

    @property
    def rows(self) -> int:
        """Partitions of the stationary operand."""

    @property
    def columns(self) -> int:
        """M."""

    @property
    def moving_columns(self) -> int:
        """N."""

    def refuse(self, problem: str, way_out: str) -> HardwareLimitError:
        """Return the error for an illegal operand."""


@instruction(
    engine="tensor",
    nki="nc_matmul",
    source="ISA32 nc_matmul; A2, A3, A4 tensor engine; cost ISA26, PERF",
)
class NcMatmul(Instruction):
    """dst[M, N] (+)= stationary[K, M].T @ moving[K, N]; K lies on the partitions.

    `accumulate` True adds to dst, False overwrites it, None decides for each PSUM element: the
    first matmul into it overwrites, later ones add. With `perf_mode="double_row"` the operands are
    [K, 2, M] and [K, 2, N] and the contraction runs over K and the 2. `tile_position` and
    `tile_size` (rows, columns) choose a part of the array; () means all of it.
    """

    dst: InOut
    stationary: In
    moving: In
    is_stationary_onezero: bool = False
    is_moving_onezero: bool = False
    is_transpose: bool = False
    accumulate: bool | None = None
    tile_position: tuple[int, ...] = ()
    tile_size: tuple[int, ...] = ()
    perf_mode: str = "none"

    @property
    def double_row(self) -> bool:
        """Whether two rows of FP8 operands are contracted at once."""
        return self.perf_mode == "double_row"

    @property
    def unread(self) -> tuple[str, ...]:
        """Dst, where it is overwritten."""
        return ("dst",) if self.accumulate is False else ()

    @property
    def rows(self) -> int:
        """K: partitions of the operands."""
        return self.stationary.partitions

    @property
    def columns(self) -> int:
        """M: columns of the stationary operand."""
        return self.stationary.free_size // (2 if self.double_row else 1)

    @property
    def moving_columns(self) -> int:
        """N: columns of the moving operand."""
        return self.moving.free_size // (2 if self.double_row else 1)

    def check(self, core: NeuronCore) -> None:
        """Refuse operands outside the array, PSUM or the supported dtypes."""
        limits.check_tile(self, core, "stationary", limits.SBUF)
        limits.check_tile(self, core, "moving", limits.SBUF)
        limits.check_tile(self, core, "dst", limits.PSUM)
        limits.check_operator(self, "perf_mode", PERF_MODES)
        _check_matmul_dtypes(self, core)
        _check_matmul_shape(self, core)
        check_bank(self, core, self.dst)
        check_array_tile(self, core)

    def compute(self, ops: Any, dst: Any, stationary: Any, moving: Any) -> Any:
        """Return the product, added to `dst` unless that is None."""
        product = self.product(ops, stationary, moving)
        return product if dst is None else ops.add(dst, product)

    def product(self, ops: Any, stationary: Any, moving: Any) -> Any:
        """Return the product alone."""
        if self.double_row:
            stationary = _stack_rows(ops, stationary, self.rows, self.columns)
            moving = _stack_rows(ops, moving, self.rows, self.moving_columns)
        return ops.matmul(ops.transpose(stationary, (1, 0)), moving)

    def cost(self, core: NeuronCore) -> Cost:
        """Return LoadStationary as set-up and MultiplyMoving as busy time."""
        timing = core.timing
        # hardware.md §2.10: LS = ceil(M/4), MM = max(N, 64) * passes + bubble.
        passes = 1
        if self.stationary.dtype in FP32_TYPES:
            passes = timing.fp32_passes
            if self.is_transpose:
                passes //= core.features.fp32_transpose_speedup
            elif self.is_stationary_onezero or self.is_moving_onezero:
                passes = ceil(passes / 2)  # ISA32: up to twice as fast with 0/1 operands
        passes *= ceil(self.columns / core.pe_cols)
        columns = max(self.moving_columns, timing.matmul_init_cycles)
        depth = self.rows * (2 if self.double_row else 1)
        return Cost(
            cycles=columns * passes + timing.matmul_bubble_cycles,
            setup_cycles=ceil(self.columns / timing.load_stationary_speedup),
            flops=2 * depth * self.columns * self.moving_columns,
        )


def _stack_rows(ops: Any, operand: Any, rows: int, columns: int) -> Any:
    """Return [K, 2·C] as [2·K, C], so that one product contracts both rows of each partition."""
    return ops.reshape(operand, (rows * 2, columns))


def _check_matmul_dtypes(matmul: NcMatmul, core: NeuronCore) -> None:
    limits.check_dtype(matmul, "stationary", core.matmul_dtypes)
    limits.check_dtype(matmul, "moving", core.matmul_dtypes)
    a, b = matmul.stationary.dtype, matmul.moving.dtype
    if (a in FP32_TYPES) != (b in FP32_TYPES):
        raise matmul.refuse(
            f"stationary is {a} and moving is {b}; "
            "float32 and tfloat32 multiply only with each other",
            "Cast one operand with tensor_copy.",
        )
    if {a, b} == {"float8_e4m3", "float8_e4m3fn"}:
        raise matmul.refuse(
            f"stationary is {a} and moving is {b}, which do not mix", "Use one of them for both."
        )
    # A transpose keeps the operand's type (A3); its bits fit a float32 destination too.
    if not (matmul.is_transpose and core.features.transpose_bit_exact and matmul.dst.dtype == a):
        limits.check_dtype(matmul, "dst", core.psum_dtypes)
    if matmul.double_row:
        if not core.features.double_row:
            raise matmul.refuse(
                f"perf_mode=double_row does not exist on NeuronCore-{core.version}",
                "Use perf_mode=none.",
            )
        limits.check_dtype(matmul, "stationary", DOUBLE_ROW_TYPES)
        limits.check_dtype(matmul, "moving", DOUBLE_ROW_TYPES)


def _check_matmul_shape(matmul: NcMatmul, core: NeuronCore) -> None:
    if matmul.double_row:
        for name in ("stationary", "moving"):
            operand: AccessPattern = getattr(matmul, name)
            if len(operand.shape) < 3 or operand.shape[1] != 2:
                raise matmul.refuse(
                    f"{name} is {list(operand.shape)} with perf_mode=double_row",
                    "Its first free dimension must be 2.",
                )
    check_product_shape(matmul, core)


def check_product_shape(matmul: Product, core: NeuronCore) -> None:
    """Refuse operands and destinations that do not fit each other or the array."""
    rows, moving_rows = matmul.rows, matmul.moving.partitions
    if rows != moving_rows:
        raise matmul.refuse(
            f"stationary has {rows} partitions and moving {moving_rows}",
            "The contraction dimension lies on the partitions of both: make them equal.",
        )
    if matmul.columns > core.stationary_max:
        raise matmul.refuse(
            f"stationary has {matmul.columns} columns; the limit is {core.stationary_max}",
            "Tile M.",
        )
    limit = core.moving_max_bf16 if matmul.dst.dtype == "bfloat16" else core.moving_max
    if matmul.moving_columns > limit:
        raise matmul.refuse(
            f"moving has {matmul.moving_columns} columns; the limit is {limit}", "Tile N."
        )
    found = (matmul.dst.partitions, matmul.dst.free_size)
    if found != (matmul.columns, matmul.moving_columns):
        raise matmul.refuse(
            f"dst holds {list(found)}; "
            f"the product is {[matmul.columns, matmul.moving_columns]} (M, N)",
            "Give a destination of that size.",
        )


def check_bank(matmul: Product, core: NeuronCore, dst: AccessPattern) -> None:
    """Refuse a product that leaves its PSUM bank, where the generation requires one bank."""
    if core.moving_max > core.psum_bank_bytes // 4:
        return  # v4 writes across banks: its moving limit is larger than one
    address = dst.tensor.address
    first = dst.free_offset_bytes + (address[1] if isinstance(address, tuple) else 0)
    free = sum((n - 1) * s for n, s in zip(dst.shape[1:], dst.strides[1:], strict=True))
    last = first + (free + 1) * dst.dtype.itemsize - 1
    bank = core.psum_bank_bytes
    if first // bank != last // bank:
        raise matmul.refuse(
            f"dst '{dst.tensor.name}' covers bytes {first} to {last} of its partitions; "
            f"a product must stay inside one PSUM bank of {bank} bytes",
            "Align it to a bank, or tile N.",
        )


def check_array_tile(matmul: Product, core: NeuronCore) -> None:
    """Refuse a part of the array that does not exist or is too small for the stationary operand."""
    position, size = matmul.tile_position or (), matmul.tile_size or ()
    if not position and not size:
        return
    if len(position) != 2 or len(size) != 2:
        raise matmul.refuse(
            f"tile_position={position} with tile_size={size}",
            "Give both as (row, column), or none.",
        )
    for what, allowed, start, length in (
        ("row", core.limits.row_tiles, position[0], size[0]),
        ("column", core.limits.column_tiles, position[1], size[1]),
    ):
        if length not in allowed or start % length:
            raise matmul.refuse(
                f"the {what} tile starts at {start} with size {length}; "
                f"sizes are {', '.join(map(str, allowed))} and the start is a multiple of the size",
                "Choose such a tile.",
            )
    if size[0] == size[1] == core.limits.transpose_tile and not core.features.tile_32x32:
        raise matmul.refuse(f"tile_size={size} does not exist here", "Use larger tiles.")
    if matmul.double_row and size[1] != core.pe_cols:
        raise matmul.refuse(
            f"perf_mode=double_row with tile_size={size}", f"Use all {core.pe_cols} columns."
        )
    if matmul.rows > size[0] or matmul.columns > size[1]:
        raise matmul.refuse(
            f"stationary is {matmul.rows} x {matmul.columns}; the array tile is {size}",
            "Choose a larger tile_size.",
        )
    for name, start in (("stationary", position[0]), ("moving", position[0]), ("dst", position[1])):
        found = getattr(matmul, name).start_partition
        if found != start:
            raise matmul.refuse(
                f"{name} starts at partition {found} and tile_position={position}",
                "Operands lie on the rows of the array's tile, dst on its columns: make them "
                "equal.",
            )


@instruction(
    engine=("tensor", "vector"), nki="nc_transpose", source="ISA32 nc_transpose; A2; cost ISA26"
)
class NcTranspose(Instruction):
    """dst[F, P] = data[P, F]; free dimensions are flattened.

    On the tensor engine from SBUF to PSUM, up to 128 x 128; on the vector engine up to 32 x 32
    between any of them. An unknown `engine` is the tensor engine if dst lies in PSUM (§6.5).
    """

    dst: Out
    data: In
    engine: str = "unknown"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else the one that dst's memory decides."""
        if self.engine != "unknown":
            return self.engine
        return "tensor" if self.dst.buffer is MemoryRegion.psum else "vector"

    @property
    def raw(self) -> bool:
        """A transpose moves stored bits."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse tiles over the engine's block, or in memories that it does not connect."""
        limits.check_engine(self, core)
        on_tensor = self.engine_name == "tensor"
        limits.check_tile(self, core, "data", limits.SBUF if on_tensor else limits.ON_CHIP)
        limits.check_tile(self, core, "dst", limits.PSUM if on_tensor else limits.ON_CHIP)
        limits.check_same_dtype(self, "dst", "data")
        limit = core.partitions if on_tensor else core.limits.transpose_tile
        rows, columns = self.data.partitions, self.data.free_size
        if rows > limit or columns > limit:
            raise self.refuse(
                f"data is {rows} x {columns}; the limit of the {self.engine_name} engine "
                f"is {limit} x {limit}",
                "Transpose block by block"
                + ("." if on_tensor else ", or use the tensor engine with a dst in PSUM."),
            )
        if (self.dst.partitions, self.dst.free_size) != (columns, rows):
            raise self.refuse(
                f"dst is {self.dst.partitions} x {self.dst.free_size}",
                f"The transpose of {rows} x {columns} needs {columns} x {rows}.",
            )

    def compute(self, ops: Any, data: Any) -> Any:
        """Return the transpose."""
        return ops.transpose(data, (1, 0))

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(P, min(64, F)) on the tensor engine, max(MIN_II, N) on the vector engine."""
        if self.engine_name == "vector":
            return Cost(cycles=limits.stream_cycles(core, self.data.free_size))
        timing = core.timing
        # ISA v2.26; the data is the stationary operand, an identity of P columns moves.
        columns = max(self.data.partitions, min(timing.matmul_init_cycles, self.data.free_size))
        passes = 1
        if self.data.dtype in FP32_TYPES:
            passes = timing.fp32_passes // core.features.fp32_transpose_speedup
        return Cost(
            cycles=columns * passes + timing.matmul_bubble_cycles,
            setup_cycles=ceil(self.data.free_size / timing.load_stationary_speedup),
        )
