"""Instructions that compute what another tensor already holds, as AWS's compilers do once only.

The tutorial on fused Mamba shows it (hardware.md §2.11): once delta and u are loaded outside of the
loop over states, the Vector Engine's busy time is shorter by exactly their product.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Block, Program

Operand = tuple[int, int]  # tensor and offset

# Spreads what a row reads over 64 bits; rows that then look alike are compared in full.
_MIX = np.int64(0x9E3779B97F4A7C1)


def redundant_rows(program: Program) -> list[int]:
    """Return the rows of a program without loops whose result an earlier row's tensor still holds.

    Such a row computes on chip from the same bytes, unchanged since, as the earlier one did, and
    what either writes nothing else ever does. Tensors placed by hand are left alone: they may lie
    on each other.
    """
    if not all(isinstance(part, Block) for part in program.body):
        return []
    pure = np.array([_is_pure(form) for form in program.forms], np.bool_)
    blocks = [part for part in program.body if isinstance(part, Block)]
    if not pure.any() or not blocks:
        return []
    columns = _Columns(program, blocks)
    writers: dict[int, list[int]] = defaultdict(list)
    suspects = columns.suspects(pure)
    read = {tensor for row in suspects for tensor, _ in columns.operands(row)[0]}
    for row, tensor in columns.writes_to(read):
        writers[tensor].append(row)
    readers = [(row, int(columns.form[row]), columns.operands(row)[0]) for row in suspects]
    return _repeated(readers, writers)


class _Columns:
    """The operands of a program without loops as columns: row, tensor, offset, kind."""

    def __init__(self, program: Program, blocks: list[Block]) -> None:
        self._forms = program.forms
        self.form = _joined([block.form for block in blocks])
        counts = np.array([len(form.operand_fields) for form in program.forms])[self.form]
        self._ends = np.cumsum(counts)
        self._row = np.repeat(np.arange(len(self.form)), counts)
        self._tensor = _joined([block.tensor for block in blocks])
        self._offset = _joined([block.offset for block in blocks])
        kinds = [kind for form in program.forms for _, kind in form.operand_fields]
        slots = np.cumsum([0, *(len(form.operand_fields) for form in program.forms)])
        self._within = np.arange(len(self._row)) - (self._ends - counts)[self._row]
        slot = slots[self.form][self._row] + self._within
        self._reads = np.array([kind in READ_KINDS for kind in kinds], np.bool_)[slot]
        self._writes = np.array([kind in WRITE_KINDS for kind in kinds], np.bool_)[slot]
        self._aliases = np.array([t.aliases for t in program.tensors], np.bool_)

    def suspects(self, pure: NDArray[np.bool_]) -> list[int]:
        """Return the rows that may repeat others: pure, and read what another one seems to read.

        What they write is written once, and nothing of it was placed by hand.
        """
        written = np.bincount(self._tensor[self._writes], minlength=len(self._aliases))
        fit = pure[self.form]
        fit[self._row[self._aliases[self._tensor]]] = False
        fit[self._row[self._writes & (written[self._tensor] > 1)]] = False
        with np.errstate(over="ignore"):
            parts = (self._tensor * _MIX + self._offset) * _MIX + self._within
            parts = np.where(self._reads, parts * _MIX, 0)
            sums = np.concatenate([[0], np.cumsum(parts)])
            starts = np.concatenate([[0], self._ends[:-1]])
            mark = sums[self._ends] - sums[starts] + self.form * _MIX
        rows = np.flatnonzero(fit)
        _, where, count = np.unique(mark[rows], return_inverse=True, return_counts=True)
        return [int(row) for row in rows[count[where] > 1]]

    def writes_to(self, tensors: set[int]) -> Iterator[tuple[int, int]]:
        """Yield (row, tensor) of all writes to some tensors, in order."""
        wanted = np.zeros(len(self._aliases), np.bool_)
        wanted[list(tensors)] = True
        found = np.flatnonzero(self._writes & wanted[self._tensor])
        yield from zip(self._row[found].tolist(), self._tensor[found].tolist(), strict=True)

    def operands(self, row: int) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
        """Return what a row reads and what it writes."""
        end = int(self._ends[row])
        own = range(end - len(self._forms[self.form[row]].operand_fields), end)
        pairs = [(int(self._tensor[k]), int(self._offset[k])) for k in own]
        reads = tuple(p for p, k in zip(pairs, own, strict=True) if self._reads[k])
        return reads, tuple(p for p, k in zip(pairs, own, strict=True) if self._writes[k])


def _joined(columns: list[array[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.asarray(column).astype(np.int64) for column in columns])


def _repeated(
    readers: list[tuple[int, int, tuple[Operand, ...]]], writers: dict[int, list[int]]
) -> list[int]:
    """Return the rows (each with its form and what it reads) that repeat an earlier one."""
    known: dict[tuple[int, tuple[Operand, ...]], int] = {}
    found = []
    for row, form, reads in readers:
        earlier = known.get((form, reads))
        if earlier is not None and all(
            bisect_left(writers[tensor], row) == bisect_left(writers[tensor], earlier)
            for tensor, _ in reads
        ):
            found.append(row)
        else:
            known[form, reads] = row
    return found


def _is_pure(form: Form) -> bool:
    """Whether an instruction's results depend on its operands alone, and it only writes them."""
    example, kinds = form.example, [kind for _, kind in form.operand_fields]
    if form.cost.dma is not None or example.accumulator is not None or example.generator:
        return False
    return (
        all(kind in READ_KINDS or kind in ("Out", "OptOut") for kind in kinds)
        and bool(set(kinds) & {"In", "OptIn"})
        and "InOut" not in kinds
    )
