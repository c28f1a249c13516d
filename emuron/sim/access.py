"""Prepared access to operands: what one form needs to reach its tensors' bytes, worked out once."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.errors import OutOfBoundsError
from emuron.isa.tensor import AccessPattern
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import DType
from emuron.sim.machine import Memory, Storage, unwritten_error
from emuron.sim.written import WRITTEN, Rectangle, Written

_MASK_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

_MOST_VIEWS = 512  # that a storage keeps


class Access:
    """The strided view that one operand of a form is, for any tensor and offset.

    Free dimensions are merged where strides allow, so that most views are [P, N] at once. `dtype`
    replaces the operand's by another of the same size (stored bits under another name).
    """

    __slots__ = (
        "name", "instruction", "backend", "dtype", "np_dtype", "itemsize", "shape", "strides",
        "byte_strides", "flat", "size", "low", "high", "free_high", "row", "on_chip", "fills",
        "rows", "columns", "mask_type", "mask_written", "as_numpy", "whole_bytes", "last_number",
        "last_filling",
    )  # fmt: skip

    def __init__(
        self,
        instruction: str,
        name: str,
        like: AccessPattern,
        backend: Backend,
        dtype: DType | None = None,
    ) -> None:
        self.last_number: float | None = None
        self.last_filling: Any = None
        self.name = name
        self.instruction = instruction
        self.backend = backend
        self.as_numpy = backend.name == "numpy"
        self.dtype = like.dtype if dtype is None else dtype
        self.np_dtype = self.dtype.np
        self.itemsize = like.dtype.itemsize
        self.on_chip = like.buffer.is_on_chip
        self.row = like.row_elements if self.on_chip else 0
        self.size = like.size
        self.flat = (like.shape[0], prod(like.shape[1:])) if self.on_chip else like.shape
        self.shape, self.strides = _merged(like)
        self.byte_strides = tuple(s * self.itemsize for s in self.strides)
        steps = [(n - 1) * s for n, s in zip(like.shape, like.strides, strict=True)]
        self.low = sum(s for s in steps if s < 0)
        self.high = sum(s for s in steps if s > 0)
        self.free_high = sum(s for s in steps[1:] if s > 0)
        self.fills = _distinct(like)
        # The bytes of a tensor all of which the access touches; -1 if there is none.
        self.whole_bytes = self.size * self.itemsize if self.fills else -1
        self.rows, self.columns = _rows_and_columns(self.shape, self.strides)
        self.mask_type = np.dtype(_MASK_TYPES[self.itemsize])
        self.mask_written = int.from_bytes(bytes([WRITTEN] * self.itemsize), "little")

    def view(self, storage: Storage, offset: int) -> Any:
        """Return the view at an offset (in elements of its dtype); OutOfBoundsError beyond."""
        found = storage.views.get((self, offset))
        return self.new_view(storage, offset) if found is None else found

    def new_view(self, storage: Storage, offset: int) -> Any:
        """Make the view at an offset and leave it with the storage; OutOfBoundsError beyond."""
        views = storage.views
        if len(views) >= _MOST_VIEWS:
            views.clear()
        made = views[self, offset] = self._made(storage, offset)
        return made

    def _made(self, storage: Storage, offset: int) -> Any:
        itemsize = self.itemsize
        if (offset + self.low) < 0 or (offset + self.high) * itemsize >= storage.nbytes:
            raise self._out_of_bounds(storage, offset)
        if self.on_chip and offset % self.row + self.free_high >= self.row:
            raise self._out_of_bounds(storage, offset)
        memory = storage.memory
        if storage.dense:
            if self.as_numpy:
                return np.ndarray(
                    self.shape, self.np_dtype, memory.buffer, offset * itemsize, self.byte_strides
                )
            return self._strided(memory, offset, self.strides)
        start, strides = self._within(storage, offset)
        if self.as_numpy:
            return np.ndarray(self.shape, self.np_dtype, memory.buffer, start, strides)
        steps = tuple(stride // itemsize for stride in strides)
        return self._strided(memory, start // itemsize, steps)

    def _strided(self, memory: Memory, offset: int, strides: tuple[int, ...]) -> Any:
        typed = memory.typed.get(self.dtype)
        if typed is None:
            backend = self.backend
            typed = backend.view_bits(backend.asarray(memory.buffer), self.dtype)
            memory.typed[self.dtype] = typed
        return typed.as_strided(self.shape, strides, offset)

    def _within(self, storage: Storage, offset: int) -> tuple[int, tuple[int, ...]]:
        """Return first byte and byte strides in a memory shared with other tensors."""
        if not self.on_chip:
            return storage.base + offset * self.itemsize, self.byte_strides
        partition, free = divmod(offset, self.row)
        start = storage.base + partition * storage.pitch + free * self.itemsize
        step = self.strides[0] // self.row * storage.pitch
        return start, (step, *self.byte_strides[1:])

    def _bits(self, storage: Storage, offset: int, mask: npt.NDArray[np.uint8]) -> Any:
        """Return the view of a mask at the same place, one integer for each element."""
        start, strides = offset * self.itemsize, self.byte_strides
        if not storage.dense:
            start, strides = self._within(storage, offset)
        return np.ndarray(self.shape, self.mask_type, mask, start, strides)

    def _rectangle(self, offset: int, base: int, pitch: int, memory: Written) -> Rectangle | None:
        """Return the rows and bytes of a memory that the view at an offset is; None for others.

        The tensor starts at byte `base`; its partitions are `pitch` bytes apart.
        """
        if not self.rows:
            return None
        itemsize, width = self.itemsize, self.columns * self.itemsize
        if self.on_chip:
            if self.rows > 1 and self.strides[0] != self.row:
                return None
            partition, free = divmod(offset, self.row)
            top, left = divmod(base + partition * pitch + free * itemsize, pitch)
            return top, top + self.rows, left, left + width
        top, left = divmod(base + offset * itemsize, memory.pitch)
        if self.rows == 1 or self.strides[0] == self.columns:
            length = self.rows * width
            if left + length <= memory.pitch:
                return top, top + 1, left, left + length
            whole = left == 0 and length % memory.pitch == 0
            return (top, top + length // memory.pitch, 0, memory.pitch) if whole else None
        if self.strides[0] * itemsize != memory.pitch or left + width > memory.pitch:
            return None
        return top, top + self.rows, left, left + width

    def require_written(self, storage: Storage, offset: int) -> None:
        """Raise UninitializedReadError unless every element has been written."""
        memory = storage.memory
        if memory.mask is None and memory.rectangles:
            part = self._rectangle(offset, storage.base, storage.pitch, memory)
            if part is not None and memory.covers(part):
                return
        bits = self._bits(storage, offset, memory.make_mask())
        good = bits == self.mask_written * storage.mark
        if good.all():
            return
        reading = f"{self.instruction} reads {self.name}"
        marks = np.ascontiguousarray(bits).view(np.uint8).reshape(*self.shape, self.itemsize)
        if not memory.counted:
            good = (marks != 0).all(axis=-1)
        if not good.all():
            first = self._first_unwritten(offset, good)
            raise unwritten_error(storage.tensor, reading, first)
        self._check_owner(storage, offset, marks, reading)

    def _check_owner(
        self, storage: Storage, offset: int, marks: npt.NDArray[np.uint8], reading: str
    ) -> None:
        """Report what the tensor itself has written and another one, on the same bytes, since."""
        own, owners = storage.own, storage.memory.owners
        if own is None or owners is None:
            return
        wrote: Any = True
        if own.unwritten:
            dense = self._dense_bits(offset, own.make_mask())
            wrote = np.ascontiguousarray(dense).view(np.uint8).reshape(marks.shape) == WRITTEN
        owners.check(storage.tensor, storage.mark, marks, wrote, reading)

    def _dense_bits(self, offset: int, mask: npt.NDArray[np.uint8]) -> Any:
        """Return the view of a mask of the tensor's bytes alone, one integer for each element."""
        start = offset * self.itemsize
        return np.ndarray(self.shape, self.mask_type, mask, start, self.byte_strides)

    def _first_unwritten(self, offset: int, good: npt.NDArray[np.bool_]) -> int:
        index = np.unravel_index(int(np.argmin(good)), self.shape)
        steps = sum(int(i) * s for i, s in zip(index, self.strides, strict=True))
        return (offset + steps) * self.itemsize

    def mark_written(self, storage: Storage, offset: int) -> None:
        """Note that every element is being written."""
        memory = storage.memory
        if not memory.writable:
            storage.make_writable()
        if not memory.unwritten:
            return
        if self.whole_bytes == storage.nbytes and storage.dense:
            memory.fill()
            return
        part = self._rectangle(offset, storage.base, storage.pitch, memory)
        if part is None or not memory.add(part):
            self._mark_mask(storage, offset)

    def _mark_mask(self, storage: Storage, offset: int) -> None:
        memory = storage.memory
        mask = memory.make_mask()
        bits = self._bits(storage, offset, mask)
        if not memory.counted:
            bits[...] = self.mask_written * storage.mark
            if storage.own is not None and storage.own.unwritten:
                self._mark_own(storage.own, offset)
            return
        if self.fills:
            new = (self.size - int(np.count_nonzero(bits == self.mask_written))) * self.itemsize
            bits[...] = self.mask_written
        else:
            before = int(np.count_nonzero(mask))
            bits[...] = self.mask_written
            new = int(np.count_nonzero(mask)) - before
        memory.unwritten -= new
        if not memory.unwritten:
            memory.fill()

    def _mark_own(self, own: Written, offset: int) -> None:
        """Note what is written through a placed tensor itself."""
        part = self._rectangle(offset, 0, own.pitch, own)
        if part is None or not own.add(part):
            self._dense_bits(offset, own.make_mask())[...] = self.mask_written

    def matmul_state(self, storage: Storage, offset: int) -> bool | npt.NDArray[np.bool_]:
        """Return which elements a matmul has written: none, all, or a mask; then mark them all."""
        if storage.all_matmul:
            return True
        whole = self.whole_bytes == storage.nbytes
        known = storage.matmul
        if known is None:
            if whole:
                storage.all_matmul = True
                return False
            row_bytes = storage.tensor.partition_bytes
            known = storage.matmul = Written(storage.nbytes, row_bytes)
        part = self._rectangle(offset, 0, known.pitch, known)
        if part is not None and known.mask is None:
            if known.covers(part):
                return True
            if not known.touches(part) and known.add(part):
                storage.all_matmul = not known.unwritten
                return False
        state = self._matmul_mask(known, offset)
        storage.all_matmul = storage.all_matmul or whole
        return state

    def _matmul_mask(self, known: Written, offset: int) -> bool | npt.NDArray[np.bool_]:
        mask = known.make_mask()
        bits = self._dense_bits(offset, mask)
        before: npt.NDArray[np.bool_] = bits == self.mask_written
        bits[...] = self.mask_written
        count = int(np.count_nonzero(before))
        return before if 0 < count < before.size else count > 0

    def filling(self, value: float) -> Any:
        """Return one element of the operand's dtype that holds a number, kept for the next time."""
        if value is not self.last_number:
            backend, dtype = self.backend, self.dtype
            # Zero is the only value of a packed type that memset's check lets through.
            packed = dtype.kind == "packed"
            one = backend.zeros((1, 1), dtype) if packed else backend.full((1, 1), value, dtype)
            self.last_number, self.last_filling = value, one
        return self.last_filling

    def _out_of_bounds(self, storage: Storage, offset: int) -> OutOfBoundsError:
        tensor = storage.tensor
        return OutOfBoundsError(
            f"{self.instruction}: {self.name} reaches elements {offset + self.low} to "
            f"{offset + self.high} ({self.dtype}) of '{tensor.name}' {list(tensor.shape)} "
            f"{tensor.dtype}, shape {list(self.shape)} with strides {list(self.strides)}; "
            f"it holds {storage.nbytes // self.itemsize}"
            + (f", {self.row} a partition" if self.on_chip else "")
            + ". Shorten the access or allocate more."
        )


def _merged(like: AccessPattern) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return shape and strides with free dimensions merged where they are one arithmetic run."""
    shape, strides = [like.shape[0]], [like.strides[0]]
    for count, stride in zip(like.shape[1:], like.strides[1:], strict=True):
        if count == 1:
            continue
        if len(shape) > 1 and strides[-1] == count * stride:
            shape[-1] *= count
            strides[-1] = stride
        else:
            shape.append(count)
            strides.append(stride)
    if len(shape) == 1:
        shape.append(1)
        strides.append(1)
    return tuple(shape), tuple(strides)


def _rows_and_columns(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Return the size of a view of rows without gaps in them; zeros for any other."""
    if len(shape) != 2 or (strides[1] != 1 and shape[1] != 1):
        return 0, 0
    return shape[0], shape[1]


def _distinct(like: AccessPattern) -> bool:
    """Return whether the elements of a view certainly lie at distinct places."""
    reach = 0
    for stride, count in sorted((abs(s), n) for n, s in zip(like.shape, like.strides, strict=True)):
        if count == 1:
            continue
        if stride <= reach:
            return False
        reach += stride * (count - 1)
    return True
