"""Instructions that compute what another tensor already holds, as AWS's compilers do once only.

The tutorial on fused Mamba shows it (hardware.md §2.11): once delta and u are loaded outside of the
loop over states, the Vector Engine's busy time is shorter by exactly their product.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Block, Program

Operand = tuple[int, int]  # tensor and offset


def redundant_rows(program: Program) -> list[int]:
    """Return the rows of a program without loops whose result an earlier row's tensor still holds.

    Such a row computes on chip from the same bytes, unchanged since, as the earlier one did, and
    what either writes nothing else ever does. Tensors placed by hand are left alone: they may lie
    on each other.
    """
    if not all(isinstance(part, Block) for part in program.body):
        return []
    pure = [_is_pure(form) for form in program.forms]
    if not any(pure):
        return []
    writers: dict[int, list[int]] = defaultdict(list)
    candidates = []
    row = 0
    for block, _ in program.leaves():
        for number, form in enumerate(block.form):
            reads, writes = _operands(program.forms[form], block, block.first[number])
            for tensor, _ in writes:
                writers[tensor].append(row)
            if pure[form]:
                candidates.append((row, form, reads, writes))
            row += 1
    return _repeated(program, candidates, writers)


def _repeated(
    program: Program,
    candidates: list[tuple[int, int, tuple[Operand, ...], tuple[Operand, ...]]],
    writers: dict[int, list[int]],
) -> list[int]:
    known: dict[tuple[int, tuple[Operand, ...]], int] = {}
    found = []
    for row, form, reads, writes in candidates:
        involved = [program.tensors[tensor] for tensor, _ in (*reads, *writes)]
        if any(tensor.aliases for tensor in involved):
            continue
        if any(len(writers[tensor]) > 1 for tensor, _ in writes):
            continue
        earlier = known.get((form, reads))
        if earlier is not None and all(
            bisect_right(writers[tensor], row) == bisect_right(writers[tensor], earlier)
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


def _operands(
    form: Form, block: Block, first: int
) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    """Return what a row reads and what it writes."""
    reads, writes = [], []
    for k, (_, kind) in enumerate(form.operand_fields, start=first):
        operand = (block.tensor[k], block.offset[k])
        if kind in READ_KINDS:
            reads.append(operand)
        if kind in WRITE_KINDS:
            writes.append(operand)
    return tuple(reads), tuple(writes)
