"""Microscaled (MX) instructions of NeuronCore-v4: quantisation and matrix multiplication.

A scale belongs to 8 partitions by 4 neighbouring values. The scales of 32 partitions of data are
four rows; they lie in the same quadrant as the data, from partition 0, 4, 8 or 12 of it on, so that
the scales of up to four operands share a tile (NKI deep dive on MXFP matrix multiplication).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emuron.isa import limits
from emuron.isa.instruction import Band, Cost, In, InOut, Instruction, Out, instruction
from emuron.isa.tensor import AccessPattern
from emuron.isa.tensor_engine import check_array_tile, check_bank, check_product_shape
from emuron.numerics import microscaling
from emuron.numerics.microscaling import GROUP_PARTITIONS, LANES

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

QUADRANT = 32
SCALE_ROWS = QUADRANT // GROUP_PARTITIONS  # rows of scales in each quadrant
SCALE_TYPES = ("float8_e8m0fnu", "uint8")
SCALE_STARTS = tuple(range(0, 4 * SCALE_ROWS, SCALE_ROWS))  # within a quadrant
QUANTIZED_TYPES = ("float8_e4m3fn_x4", "float8_e5m2_x4")
OPERAND_TYPES = (*QUANTIZED_TYPES, "float4_e2m1fn_x4")


def scale_band(data: AccessPattern) -> Band:
    """Return the partitions of a scale operand that belong to a tile of data."""
    return Band(data.partitions // QUADRANT, SCALE_ROWS, QUADRANT)


def _check_data(instruction: Instruction, core: NeuronCore, name: str) -> None:
    limits.check_tile(instruction, core, name, limits.SBUF)
    data: AccessPattern = getattr(instruction, name)
    if data.partitions % QUADRANT:
        raise instruction.refuse(
            f"{name} has {data.partitions} partitions",
            f"Give a multiple of {QUADRANT}: pad with zeros.",
        )


def _check_scale(
    instruction: Instruction, core: NeuronCore, name: str, data: AccessPattern, columns: int
) -> None:
    """Refuse scales outside SBUF, of another dtype, or where the data's quadrants have none."""
    scale: AccessPattern = getattr(instruction, name)
    limits.check_buffer(instruction, core, name, limits.SBUF)
    limits.check_dtype(instruction, name, SCALE_TYPES)
    if scale.start_partition % QUADRANT not in SCALE_STARTS:
        raise instruction.refuse(
            f"{name} starts at partition {scale.start_partition}",
            f"In a quadrant of {QUADRANT} it starts at {', '.join(map(str, SCALE_STARTS))}.",
        )
    needed = data.partitions - QUADRANT + SCALE_ROWS
    if scale.partitions < needed or scale.free_size != columns:
        raise instruction.refuse(
            f"{name} is {list(scale.shape)}",
            f"The scales of {data.partitions} partitions are {columns} columns of at least "
            f"{needed} partitions, {SCALE_ROWS} used in each quadrant of {QUADRANT}.",
        )


@instruction(engine="vector", nki="quantize_mx", since=4, source="ISA32 quantize_mx; MX; cost A4")
class QuantizeMx(Instruction):
    """dst[P, F] = src[P, 4F] in 8-bit floats packed by four; dst_scale = one power of two a group.

    A group is 8 partitions by 4 elements; its scale is 2^(floor(log2(amax)) - (Emax - 1)), where
    Emax is the largest exponent of dst's elements, and 2^-127 for zeros. With `ocp_scale` it is
    half that, as in the OCP specification's example and in NKI before 0.5. With `clears_rows` the
    rows of dst_scale between the scales become zero, as they did before 0.6; else they are kept.
    """

    dst: Out
    src: In
    dst_scale: Out
    ocp_scale: bool = False
    clears_rows: bool = False

    @property
    def stored(self) -> tuple[str, ...]:
        """The packed elements and the bytes of the scales."""
        return ("dst", "dst_scale")

    def band(self, name: str) -> Band | None:
        """Scales are written to four rows of each quadrant."""
        in_band = name == "dst_scale" and not self.clears_rows
        return scale_band(self.src) if in_band else None

    def check(self, core: NeuronCore) -> None:
        """Refuse earlier generations, partial groups and tiles of another size."""
        _check_data(self, core, "src")
        limits.check_tile(self, core, "dst", limits.SBUF)
        limits.check_dtype(self, "src", ("float16", "bfloat16"))
        limits.check_dtype(self, "dst", QUANTIZED_TYPES)
        columns, rest = divmod(self.src.free_size, LANES)
        if rest:
            raise self.refuse(
                f"src has {self.src.free_size} elements a partition",
                f"Give a multiple of {LANES}.",
            )
        limits.check_columns(self, "dst", self.src.partitions, columns)
        _check_scale(self, core, "dst_scale", self.src, columns)

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the packed elements and the scales."""
        values, kind = ops.numpy(src), self.dst.dtype
        packed, scales = microscaling.quantize_mx(values, kind, ocp_scale=self.ocp_scale)
        if self.clears_rows:
            scales = self._between_zeros(scales)
        return ops.asarray(packed), ops.asarray(scales.view(self.dst_scale.dtype.np))

    def _between_zeros(self, scales: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the scales on all rows of dst_scale, four in each quadrant."""
        rows = np.zeros((self.dst_scale.partitions, scales.shape[1]), np.uint8)
        for first in range(0, len(scales), SCALE_ROWS):
            start = first // SCALE_ROWS * QUADRANT
            rows[start : start + SCALE_ROWS] = scales[first : first + SCALE_ROWS]
        return rows

    def cost(self, core: NeuronCore) -> Cost:
        """Return N/4: four elements a partition and cycle (A4)."""
        elements = self.src.free_size / core.vector.quantize_mx_speedup
        return Cost(cycles=limits.stream_cycles(core, elements), flops=self.src.size)


@instruction(engine="tensor", nki="nc_matmul_mx", since=4, source="ISA32 nc_matmul_mx; MX; cost A4")
class NcMatmulMx(Instruction):
    """dst[M, N] (+)= stationary.T @ moving over P partitions of four packed values each, scaled.

    `stationary` [P, M] and `moving` [P, N] are packed by four; each value is multiplied by the
    scale of its group. `accumulate` is that of nc_matmul; `tile_position` and `tile_size` choose
    rows of the array.
    """

    dst: InOut
    stationary: In
    moving: In
    stationary_scale: In
    moving_scale: In
    tile_position: tuple[int, ...] | None = None
    tile_size: tuple[int, ...] | None = None
    accumulate: bool | None = None

    @property
    def double_row(self) -> bool:
        """Packed values lie in one row."""
        return False

    @property
    def unread(self) -> tuple[str, ...]:
        """Dst, where it is overwritten."""
        return ("dst",) if self.accumulate is False else ()

    @property
    def stored(self) -> tuple[str, ...]:
        """The packed elements and the bytes of the scales."""
        return ("stationary", "moving", "stationary_scale", "moving_scale")

    @property
    def rows(self) -> int:
        """P: partitions of the operands."""
        return self.stationary.partitions

    @property
    def columns(self) -> int:
        """M: columns of the stationary operand."""
        return self.stationary.free_size

    @property
    def moving_columns(self) -> int:
        """N: columns of the moving operand."""
        return self.moving.free_size

    def band(self, name: str) -> Band | None:
        """Scales lie in four rows of each quadrant."""
        return scale_band(self.stationary) if name.endswith("_scale") else None

    def check(self, core: NeuronCore) -> None:
        """Refuse earlier generations, other dtypes and operands outside the array or PSUM."""
        for name in ("stationary", "moving"):
            _check_data(self, core, name)
            limits.check_dtype(self, name, OPERAND_TYPES)
            data: AccessPattern = getattr(self, name)
            _check_scale(self, core, f"{name}_scale", data, data.free_size)
        if self.columns % 2:
            raise self.refuse(
                f"stationary has {self.columns} columns, an odd number", "Pad it to an even one."
            )
        check_product_shape(self, core)
        limits.check_tile(self, core, "dst", limits.PSUM)
        limits.check_dtype(self, "dst", core.psum_dtypes)
        check_bank(self, core, self.dst)
        position, size = self.tile_position or (), self.tile_size or ()
        if position[1:] != (0,) * len(position[1:]) or size[1:] != (core.pe_cols,) * len(size[1:]):
            raise self.refuse(
                f"tile_position={self.tile_position} with tile_size={self.tile_size}",
                f"Only rows can be chosen: start at column 0 and take all {core.pe_cols}.",
            )
        check_array_tile(self, core)

    def dequantized(self, ops: Any, packed: Any, scales: Any, operand: AccessPattern) -> Any:
        """Return an operand as fp32 [4P, columns], the contraction along the first axis."""
        values = microscaling.dequantize_mx(ops.numpy(packed), ops.numpy(scales), operand.dtype)
        wide = values.reshape(operand.partitions, operand.free_size, LANES)
        return ops.asarray(wide.transpose(0, 2, 1).reshape(-1, operand.free_size).copy())

    def product(self, ops: Any, stationary: Any, moving: Any) -> Any:
        """Return the product of dequantised operands."""
        return ops.matmul(ops.transpose(stationary, (1, 0)), moving)

    def compute(
        self, ops: Any, dst: Any, stationary: Any, moving: Any, scale: Any, moving_scale: Any
    ) -> Any:
        """Return the product, added to `dst` unless that is None."""
        left = self.dequantized(ops, stationary, scale, self.stationary)
        right = self.dequantized(ops, moving, moving_scale, self.moving)
        product = self.product(ops, left, right)
        return product if dst is None else ops.add(dst, product)

    def cost(self, core: NeuronCore) -> Cost:
        """Return the time of a bfloat16 product of as many partitions (A4)."""
        timing = core.timing
        columns = max(self.moving_columns, timing.matmul_init_cycles)
        return Cost(
            cycles=columns + timing.matmul_bubble_cycles,
            setup_cycles=ceil(self.columns / timing.load_stationary_speedup),
            flops=2 * LANES * self.rows * self.columns * self.moving_columns,
        )
