"""Views whose place is known at run time only: shifted by one value, or by one value a row.

Rules: `nki_api.md` §4.4 (raw access patterns) and §4.5 (registers).
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

from emuron.errors import OutOfBoundsError, UsageError
from emuron.isa.affine import Affine, Index, base_of
from emuron.isa.gathered import ENGINE_GROUP, GATHER
from emuron.isa.tensor import AccessPattern, Indirection, MemoryRegion
from emuron.nki.registers import VirtualRegister
from emuron.nki.reinterpretation import offset_in
from emuron.nki.shapes import reshaped_strides
from emuron.numerics.dtypes import dtype as to_dtype

if TYPE_CHECKING:
    from emuron.nki.tensor import NkiTensor

_INDEX_MEMORIES = (MemoryRegion.sbuf, MemoryRegion.register)


def run_time_index(index: Any, owner: str, method: str, one: bool = True) -> AccessPattern:
    """Return `index` if it can address at run time: integers in SBUF or a register.

    With `one` it must hold one element. Raises UsageError.
    """
    if isinstance(index, VirtualRegister):
        index = index.now()
    if not isinstance(index, AccessPattern):
        raise UsageError(
            f"{method}: the run-time index of {owner} is {index!r}; give a tile of integers in "
            "SBUF or a register (nisa.register_alloc)."
        )
    if index.buffer not in _INDEX_MEMORIES or not index.dtype.is_integer:
        raise UsageError(
            f"{method}: the run-time index of {owner} is {index!r}. It must hold integers and lie "
            "in SBUF or a register: copy or convert it first."
        )
    if one and index.size != 1:
        raise UsageError(
            f"{method}: the run-time index of {owner} has shape {list(index.shape)}; it must hold "
            "one element, such as a [1, 1] tile. Rows are chosen with vector_offset."
        )
    return index


def _refuse_second(name: str, present: Indirection | None, method: str) -> None:
    if present is not None:
        raise UsageError(
            f"{method}: {name} is addressed at run time already; once is possible. "
            "Copy the selection, or compute one index for both."
        )


def shifted(
    view: NkiTensor, axis: int, index: AccessPattern, limit: int, present: Indirection | None
) -> Indirection:
    """Return the shift of `view` along `axis` by a run-time index of 0 to `limit` − 1.

    Raises UsageError if there is run-time addressing already (`present`).
    """
    method = "indexing"
    _refuse_second(view.name, present, method)
    if view.buffer.is_on_chip and axis == 0:
        raise UsageError(
            f"{method}: the partition dimension of {view.name} cannot be addressed at run time. "
            "Move the data with nisa.dma_copy, or index it with an int."
        )
    index = run_time_index(index, view.name, method)
    return Indirection("scalar", index, view.strides[axis], limit)


def rows(view: NkiTensor, dim: int, index: AccessPattern) -> NkiTensor:
    """Return rows of an HBM tensor: row p is row `index[p, 0]` of the view."""
    if dim != 0 or view.buffer.is_on_chip:
        raise UsageError(
            f"vector_select: dimension {dim} of {view.name} in {view.buffer.value}; it works on "
            "dimension 0 of a tensor in HBM."
        )
    _refuse_second(view.name, view.indirection, "vector_select")
    index = run_time_index(index, view.name, "vector_select", one=False)
    made = view._like((index.shape[0], *view.shape[1:]), view.strides, view.offset)
    made.indirection = Indirection("vector", index, view.strides[0], view.shape[0])
    return made


def raw_pattern(
    view: NkiTensor,
    pattern: Sequence[Any],
    offset: Index | None,
    dtype: object,
) -> NkiTensor:
    """Return the static part of `ap`: steps and counts over the flattened storage."""
    new = view.dtype if dtype is None else to_dtype(dtype)
    pairs = _pairs(pattern, view.name)
    if offset is None:
        start = offset_in(view, new)
    else:
        start = offset if isinstance(offset, Affine) else operator.index(offset)
        if base_of(view.offset) != 0:
            warnings.warn(
                f"ap(offset={offset}) on a view of {view.name} counts from the tensor's start; "
                "leave offset out to keep the view's own.",
                stacklevel=3,
            )
    shape = tuple(count for _, count in pairs)
    made = view._like(shape, tuple(step for step, _ in pairs), start, new)
    made.indirection = None
    return made


def _pairs(pattern: Sequence[Any], name: str) -> list[tuple[int, int]]:
    try:
        pairs = [(operator.index(step), operator.index(count)) for step, count in pattern]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or any(count < 1 for _, count in pairs):
        raise UsageError(
            f"ap: the pattern {pattern!r} of {name} must be a list of [step, count] pairs of ints "
            "with counts of at least 1, slowest first, such as [[512, 128], [1, 512]]."
        )
    return pairs


def with_offset(
    made: NkiTensor,
    base: NkiTensor,
    scalar_offset: Any,
    vector_offset: Any,
    indirect_dim: int,
) -> None:
    """Add run-time addressing along a dimension of `base.shape` to the pattern `made`.

    An index counts rows of that dimension: prod(base.shape[indirect_dim + 1:]) elements of base's
    dtype each.
    """
    if scalar_offset is None and vector_offset is None:
        return
    if scalar_offset is not None and vector_offset is not None:
        raise UsageError("ap takes scalar_offset or vector_offset, not both.")
    axis = base._axis(indirect_dim, "ap")
    stride_bytes = prod(base.shape[axis + 1 :]) * base.dtype.itemsize
    stride, rest = divmod(stride_bytes, made.dtype.itemsize)
    if rest:
        raise UsageError(
            f"ap: one step of dimension {axis} of {base.name} is {stride_bytes} bytes, no whole "
            f"number of {made.dtype} elements."
        )
    limit = base.shape[axis]
    if vector_offset is not None:
        index = _row_index(made, axis, vector_offset)
        made.indirection = Indirection("vector", index, stride, limit)
    elif isinstance(scalar_offset, AccessPattern):
        index = run_time_index(scalar_offset, base.name, "ap")
        made.indirection = Indirection("scalar", index, stride, limit)
    else:
        step = operator.index(scalar_offset)
        if not 0 <= step < limit:
            raise OutOfBoundsError(
                f"ap: scalar_offset={step} is outside dimension {axis} of {base.name} "
                f"{list(base.shape)}, whose size is {limit}."
            )
        made.offset = made.offset + step * stride


def _row_index(made: NkiTensor, axis: int, index: Any) -> AccessPattern:
    if made.buffer.is_on_chip or axis != 0:
        raise UsageError(
            f"ap: vector_offset with indirect_dim={axis} of {made.name} in {made.buffer.value}; it "
            "chooses rows (indirect_dim=0) of a tensor in HBM."
        )
    found = run_time_index(index, made.name, "ap", one=False)
    if found.size < made.shape[0]:
        raise UsageError(
            f"ap: the pattern has {made.shape[0]} rows, vector_offset {list(found.shape)} has "
            f"{found.size} indices. Give one for each row."
        )
    return found


_DESCRIPTION = frozenset({"shape", "strides", "offset", "dtype", "ndim", "size", "buffer", "name"})


class Beyond:
    """Stands for a raw pattern that leaves its storage: it has a shape; whatever uses it raises.

    nki-library makes such patterns: output_projection_tkg in the round that it then leaves out,
    bwmm_shard_on_block to ask one for its shape.
    """

    def __init__(self, made: AccessPattern, why: str) -> None:
        self._made = made
        self._why = why

    def __getattr__(self, name: str) -> Any:
        if name in _DESCRIPTION:
            return getattr(self._made, name)
        raise OutOfBoundsError(self._why)

    def __getitem__(self, key: object) -> NoReturn:
        raise OutOfBoundsError(self._why)

    def __float__(self) -> float:
        raise OutOfBoundsError(self._why)


def check_pattern(made: AccessPattern) -> None:
    """Refuse a raw pattern that leaves the storage or walks partitions with a wrong step."""
    on_chip = made.buffer.is_on_chip
    row = made.row_elements if on_chip else 0
    if on_chip and made.shape[0] > 1 and made.strides[0] != row:
        raise UsageError(
            f"ap: the first pair of {made.tensor.name} steps {made.strides[0]} elements; on chip "
            f"it runs over partitions, whose step is {row} ({made.dtype})."
        )
    if made.indirection is not None:
        return
    low, high = made.bounds
    size = made.tensor.nbytes // made.dtype.itemsize
    if low < 0 or high >= size:
        raise OutOfBoundsError(
            f"ap: elements {low} to {high} are outside {made.tensor.name} "
            f"({size} elements of {made.dtype}). Check pattern and offset."
        )
    if on_chip and isinstance(made.offset, int):
        steps = [(n - 1) * s for n, s in zip(made.shape[1:], made.strides[1:], strict=True)]
        first = made.offset % row + sum(s for s in steps if s < 0)
        last = made.offset % row + sum(s for s in steps if s > 0)
        if first < 0 or last >= row:
            raise OutOfBoundsError(
                f"ap: elements {first} to {last} of a partition of {made.tensor.name} are "
                f"addressed, which has {row} of {made.dtype}. Check pattern and offset."
            )


def gathered(view: NkiTensor, index: Any, num_elem: int | None) -> tuple[int, Indirection]:
    """Return how many elements of each partition an index tile chooses, and how.

    By default as many as the offsets of a group of 16 partitions, or of fewer if there are.
    """
    if not view.buffer.is_on_chip:
        raise UsageError(
            f"indirect: {view.name} lies in {view.buffer.value}; its elements are chosen on chip. "
            "Rows of HBM are chosen by vector_select."
        )
    _refuse_second(view.name, view.indirection, "indirect")
    found = run_time_index(index, view.name, "indirect", one=False)
    if found.shape[0] != view.shape[0]:
        raise UsageError(
            f"indirect: {view.name} has {view.shape[0]} partitions, the index "
            f"{list(found.shape)}. Give it a row for each."
        )
    free = view.free_size
    (stride,) = reshaped_strides(view.shape[1:], view.strides[1:], (free,), view.name)
    offsets = min(view.shape[0], ENGINE_GROUP) * found.free_size
    count = offsets if num_elem is None else operator.index(num_elem)
    if count < 1:
        raise UsageError(f"indirect: num_elem={num_elem} of {view.name}; it is at least 1.")
    return count, Indirection(GATHER, found, stride, free)
