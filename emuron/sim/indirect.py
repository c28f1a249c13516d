"""DMA transfers whose rows are chosen, or may be dropped, at run time (gather and scatter)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.errors import OutOfBoundsError
from emuron.isa.instruction import Form
from emuron.isa.tensor import AccessPattern
from emuron.numerics.dtypes import float32
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage, unwritten_error
from emuron.sim.stores import Step

Indices = npt.NDArray[np.int64]


class Rows:
    """One operand of a row-indirect transfer as byte-exact element positions.

    Row i of the view starts at element `offset + index[i]·stride`, or at `offset + i·strides[0]`
    where the operand has no indices; one index for all rows shifts these. With `skip` a row of an
    operand with indices is illegal also if it reaches beyond the tensor.
    """

    def __init__(self, form: Form, name: str, machine: Machine, skip: bool) -> None:
        like: AccessPattern = getattr(form.example, name)
        self.name, self.mnemonic = name, form.mnemonic
        self.like, self.rule = like, like.indirection
        fields = [field for field, _ in form.operand_fields]
        self.position = fields.index(name)
        self.access = Access(form.mnemonic, name, like, machine.ops)
        self.index: Access | None = None
        if self.rule is not None:
            self.index = Access(form.mnemonic, f"{name}.index", self.rule.index, machine.ops)
        inner = np.zeros((1,), np.int64)
        for count, stride in zip(like.shape[1:], like.strides[1:], strict=True):
            inner = (inner[:, None] + np.arange(count, dtype=np.int64) * stride).reshape(-1)
        self.inner = inner
        self.skip = skip

    def starts(self, machine: Machine, storages: list[Storage], offsets: list[int]) -> Indices:
        """Return the first element of each row; −1 where the index is out of range."""
        count = self.like.shape[0]
        offset = offsets[self.position]
        if self.rule is None or self.index is None:
            return offset + np.arange(count, dtype=np.int64) * self.like.strides[0]
        k = self.position + 1
        view = self.index.view(storages[k], offsets[k])
        if storages[k].memory.unwritten:
            self.index.require_written(storages[k], offsets[k])
        # dma_transpose reads an index tile column by column (nki_api §7.3).
        values = machine.ops.numpy(view).astype(np.int64).T.reshape(-1)[:count]
        if self.rule.kind == "scalar":
            values = np.repeat(values[:1], count)
            starts = values * self.rule.stride + np.arange(count) * self.like.strides[0]
        else:
            starts = values * self.rule.stride
        legal = (values >= 0) & (values < self.rule.limit)
        starts = starts + offset
        if self.skip:
            total = storages[self.position].nbytes // self.like.dtype.itemsize
            legal &= (starts + self.inner.min() >= 0) & (starts + self.inner.max() < total)
        return np.where(legal, starts, -1)

    def refuse_illegal(self, starts: Indices) -> None:
        """Raise OutOfBoundsError if an index is out of range."""
        if self.rule is not None and (starts < 0).any():
            row = int(np.argmax(starts < 0))
            raise OutOfBoundsError(
                f"{self.mnemonic}: the index of row {row} of {self.name} is out of range; "
                f"legal indices of '{self.like.tensor.name}' are 0 to {self.rule.limit - 1}. "
                "Correct the index, or use oob_mode.skip."
            )

    def elements(self, storage: Storage, starts: Indices) -> Indices:
        """Return positions [rows, inner] in the tensor, all inside it."""
        positions = starts[:, None] + self.inner
        total = storage.nbytes // self.like.dtype.itemsize
        if positions.size and (positions.min() < 0 or positions.max() >= total):
            raise OutOfBoundsError(
                f"{self.mnemonic}: {self.name} reaches elements {positions.min()} to "
                f"{positions.max()} of '{storage.tensor.name}', which holds {total}. "
                "Shorten the rows or correct the indices."
            )
        return positions

    def flat(self, storage: Storage, buffer: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return a dense tensor's elements in one dimension, as stored."""
        count = storage.nbytes // self.like.dtype.itemsize
        return np.ndarray((count,), self.like.dtype.np, buffer, storage.base)


def bytes_of(like: AccessPattern, storage: Storage, positions: Indices) -> Indices:
    """Return the byte addresses [..., itemsize] of element positions of a tensor in its memory."""
    size = like.dtype.itemsize
    if storage.dense or not like.buffer.is_on_chip:
        first = storage.base + positions * size
    else:
        partition, free = np.divmod(positions, like.row_elements)
        first = storage.base + partition * storage.pitch + free * size
    return first[..., None] + np.arange(size)


def mark(like: AccessPattern, storage: Storage, positions: Indices) -> None:
    """Note that elements at these positions are being written."""
    memory = storage.memory
    storage.make_writable()
    if memory.unwritten:
        mask = memory.make_mask()
        before = int(np.count_nonzero(mask)) if memory.counted else 0
        mask[bytes_of(like, storage, positions)] = storage.mark
        if memory.counted:
            memory.unwritten -= int(np.count_nonzero(mask)) - before


def row_indirect_plan(form: Form, machine: Machine) -> Step:
    """Return the prepared execution of a DMA transfer with row indices on some operand."""
    example = form.example
    present = [
        name for name, _ in example.operands if isinstance(getattr(example, name), AccessPattern)
    ]
    skip = getattr(example, "oob_mode", "error") == "skip"
    dst, *sources = [Rows(form, name, machine, skip) for name in present]
    absent = len(example.operands) - len(present)
    transposed = form.mnemonic == "dma_transpose"

    def step(storages: list[Storage], offsets: list[int]) -> None:
        starts = [r.starts(machine, storages, offsets) for r in (dst, *sources)]
        if machine.on_address is not None:
            for rows, first in zip((dst, *sources), starts, strict=True):
                if rows.rule is not None:
                    machine.on_address(storages[rows.position].tensor, first)
        if not skip:
            for rows, first in zip((dst, *sources), starts, strict=True):
                rows.refuse_illegal(first)
        values = [
            _gather(machine, rows, storages[rows.position], first, example.raw)
            for rows, first in zip(sources, starts[1:], strict=True)
        ]
        result = example.compute(machine.ops, *values, *([None] * absent))
        legal = _legal_elements(dst, starts[0], sources, starts[1:], transposed)
        target = storages[dst.position]
        kept = _scatter(machine, dst, target, starts[0], result, legal, example.raw)
        if not kept and machine.on_duplicate is not None:
            machine.on_duplicate(
                f"{form.mnemonic} writes different values to the same row of "
                f"'{target.tensor.name}', whose indices name it more than once: which stays is not "
                "defined (here the last). Make the indices unique, or let padding go out of range "
                "with oob_mode.skip."
            )

    return step


def _gather(machine: Machine, rows: Rows, storage: Storage, starts: Indices, raw: bool) -> Any:
    """Return the rows as an array of the back end; rows with illegal indices hold zeros."""
    like, memory = rows.like, storage.memory
    legal = starts >= 0
    stored = np.zeros((len(starts), len(rows.inner)), like.dtype.np)
    positions = rows.elements(storage, starts[legal])
    if memory.unwritten:
        bad = (memory.make_mask()[bytes_of(like, storage, positions)] == 0).any(axis=-1)
        if bad.any():
            byte = int(positions[bad][0]) * like.dtype.itemsize
            raise unwritten_error(storage.tensor, f"{rows.mnemonic} reads {rows.name}", byte)
    if storage.dense:
        stored[legal] = rows.flat(storage, memory.buffer)[positions]
    else:
        found = memory.buffer[bytes_of(like, storage, positions)]
        stored[legal] = found.view(like.dtype.np)[..., 0]
    array = machine.ops.asarray(stored.reshape(like.shape))
    return array if raw or like.dtype == float32 else machine.ops.widen(array, like.dtype)


def _legal_elements(
    dst: Rows, dst_starts: Indices, sources: list[Rows], starts: list[Indices], transposed: bool
) -> npt.NDArray[np.bool_]:
    """Return which elements of dst [rows, inner] have no illegal index on either side."""
    shape = (len(dst_starts), len(dst.inner))
    legal = np.broadcast_to((dst_starts >= 0)[:, None], shape)
    for rows, first in zip(sources, starts, strict=True):
        good = np.broadcast_to((first >= 0)[:, None], (len(first), len(rows.inner)))
        if transposed:
            axes = tuple(reversed(range(2)))
            good = np.transpose(good.reshape(len(first), -1), axes)
        legal = legal & good.reshape(shape)
    return legal


def _scatter(
    machine: Machine,
    dst: Rows,
    storage: Storage,
    starts: Indices,
    result: Any,
    legal: npt.NDArray[np.bool_],
    raw: bool,
) -> bool:
    """Write the legal elements in ascending row order: of equal indices the last one stays.

    Return whether what each row wrote is there.
    """
    if not legal.any():
        return True
    backend, like = machine.ops, dst.like
    rounded = result
    if not raw and like.dtype != float32:
        rounded = backend.round_to(result, like.dtype, machine.policy, machine.next_counter())
    stored = backend.numpy(rounded).reshape(-1).view(like.dtype.np).reshape(legal.shape)
    safe = np.where(starts >= 0, starts, 0)
    positions = dst.elements(storage, safe)[legal]
    memory = storage.memory
    mark(like, storage, positions)
    chosen = np.ascontiguousarray(stored[legal])
    chosen_bytes = chosen.view(np.uint8).reshape(*chosen.shape, -1)
    if storage.dense:
        dst.flat(storage, memory.buffer)[positions] = chosen
    else:
        memory.buffer[bytes_of(like, storage, positions)] = chosen_bytes
    if dst.rule is None or len(np.unique(starts[starts >= 0])) == np.count_nonzero(starts >= 0):
        return True
    return bool((memory.buffer[bytes_of(like, storage, positions)] == chosen_bytes).all())
