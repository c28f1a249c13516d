"""Instructions of the vector engine that search rows: the largest, their places, replacing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emuron.isa import limits
from emuron.isa.instruction import Cost, In, Instruction, OptOut, Out, instruction
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

WIDTH = 8  # values that a search instruction handles in each partition
INDEX_TYPES = ("uint16", "uint32")
ABSENT = -1


def _check_row(instruction: Instruction, core: NeuronCore, name: str) -> None:
    row: AccessPattern = getattr(instruction, name)
    low, high = core.limits.max8_min, core.limits.max8_max
    if not low <= row.free_size <= high:
        raise instruction.refuse(
            f"{name} has {row.free_size} elements a partition; it takes {low} to {high}",
            "Pad or split the row.",
        )


def _search_cost(core: NeuronCore, elements: int) -> Cost:
    # ISA v2.26: N; the fixed part is measured (NKL rotational_topk_utils).
    return Cost(cycles=limits.stream_cycles(core, elements) + core.timing.max8_fixed_cycles)


def find_each(row: npt.NDArray[Any], values: npt.NDArray[Any], order: range) -> list[int]:
    """Return the place of each value in a row, −1 if absent; equal values take successive places.

    `order` is the order in which the values are looked for.
    """
    places = [ABSENT] * len(values)
    used: set[int] = set()
    for column in order:
        for place in np.flatnonzero(row == values[column]):
            if int(place) not in used:
                used.add(int(place))
                places[column] = int(place)
                break
    return places


@instruction(engine="vector", nki="max8", source="ISA32 max8; cost ISA26, NKL")
class Max8(Instruction):
    """dst[P, 8] = the eight largest values of each row of src, descending, duplicates kept."""

    dst: Out
    src: In

    def check(self, core: NeuronCore) -> None:
        """Refuse rows that are too short or too long."""
        for name in ("dst", "src"):
            limits.check_tile(self, core, name)
        _check_row(self, core, "src")
        limits.check_columns(self, "dst", self.src.partitions, WIDTH)

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the largest values."""
        return ops.asarray(np.sort(ops.numpy(src), axis=1)[:, : -WIDTH - 1 : -1].copy())

    def cost(self, core: NeuronCore) -> Cost:
        """Return N and a fixed part."""
        return _search_cost(core, self.src.free_size)


@instruction(engine="vector", nki="nc_find_index8", source="ISA32 nc_find_index8; cost ISA26, NKL")
class NcFindIndex8(Instruction):
    """dst[P, 8] = the place of each of vals[P, 8] in its row of data; all ones if absent.

    Equal values take successive places in ascending order.
    """

    dst: Out
    data: In
    vals: In

    def check(self, core: NeuronCore) -> None:
        """Refuse rows that are too short or too long and destinations that hold no index."""
        for name in ("dst", "data", "vals"):
            limits.check_tile(self, core, name)
        _check_row(self, core, "data")
        for name in ("dst", "vals"):
            limits.check_columns(self, name, self.data.partitions, WIDTH)
        limits.check_dtype(self, "dst", INDEX_TYPES)

    def compute(self, ops: Any, data: Any, vals: Any) -> Any:
        """Return the places as numbers; the largest of dst's type stands for absent."""
        rows = zip(ops.numpy(data), ops.numpy(vals), strict=True)
        places = np.array([find_each(row, values, range(WIDTH)) for row, values in rows])
        absent = np.float32(self.dst.dtype.max)
        return ops.asarray(np.where(places == ABSENT, absent, places).astype(np.float32))

    def cost(self, core: NeuronCore) -> Cost:
        """Return N and a fixed part."""
        return _search_cost(core, self.data.free_size)


@instruction(
    engine="vector", nki="nc_match_replace8", source="ISA32 nc_match_replace8; cost ISA26, NKL"
)
class NcMatchReplace8(Instruction):
    """dst = data with the first place of each of vals[P, 8] replaced by imm.

    Values are taken from the last column to the first, each using up one place; `dst_idx[P, 8]`
    receives the places, all ones if absent.
    """

    dst: Out
    data: In
    vals: In
    imm: float
    dst_idx: OptOut = None

    def check(self, core: NeuronCore) -> None:
        """Refuse rows that are too short or too long."""
        for name in ("dst", "data", "vals", "dst_idx"):
            limits.check_tile(self, core, name)
        _check_row(self, core, "data")
        limits.check_same_elements(self, "dst", "data")
        for name in ("vals", "dst_idx"):
            limits.check_columns(self, name, self.data.partitions, WIDTH)
        limits.check_dtype(self, "dst_idx", INDEX_TYPES)

    def compute(self, ops: Any, data: Any, vals: Any) -> Any:
        """Return the replaced rows and the places."""
        result = ops.numpy(data).copy()
        places = []
        for row, values in zip(result, ops.numpy(vals), strict=True):
            found = find_each(row, values, range(WIDTH - 1, -1, -1))
            places.append(found)
            row[[place for place in found if place != ABSENT]] = self.imm
        index = None
        if self.dst_idx is not None:
            absent = np.float32(self.dst_idx.dtype.max)
            found_at = np.array(places)
            index = ops.asarray(np.where(found_at == ABSENT, absent, found_at).astype(np.float32))
        return ops.asarray(result), index

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N) and a fixed part."""
        return _search_cost(core, self.data.free_size)
