"""The work of a recorded kernel, line by line, for its profile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod

import numpy as np

from emuron.hardware.chip import Chip
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Block, Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.sim.dma import transfer
from emuron.trace.work import Figures, Traffic, Work


def work_of(program: Program, core: int = 0) -> tuple[Work, ...]:
    """Return the instructions of a core's program, equal ones of a line together."""
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for block, indices in program.leaves():
        times = prod(index.trip for index in indices)
        pairs = np.stack([np.asarray(block.group), np.asarray(block.form)])
        distinct, found = np.unique(pairs, axis=1, return_counts=True)
        for (group, form), count in zip(distinct.T.tolist(), found.tolist(), strict=True):
            counts[group, form] += count * times
    return tuple(
        replace(_work(program.groups[group], program.forms[form], count), core=core)
        for (group, form), count in sorted(counts.items())
    )


def _work(group: str, form: Form, count: int) -> Work:
    writes_first = sorted(form.operand_fields, key=lambda field: field[1] not in WRITE_KINDS)
    views: list[AccessPattern] = [
        getattr(form.example, name) for name, _ in writes_first if "." not in name
    ]
    dtypes = tuple(str(view.dtype) for view in views)
    partitions = max((v.partitions for v in views if v.buffer.is_on_chip), default=0)
    elements = max((v.free_size for v in views if v.buffer.is_on_chip), default=0)
    reads = (getattr(form.example, name.partition(".")[0]) for name, kind in form.operand_fields
             if kind in READ_KINDS)  # fmt: skip
    reads_psum = any(view.buffer is MemoryRegion.psum for view in reads)
    dma = form.cost.dma
    engine, busy = "dma", 0
    if dma is None:
        engine, busy = form.engine, form.core.engine(form.engine).ps(form.cost.cycles)
    made = Work(
        group, engine, form.mnemonic, count, busy, partitions, elements, dtypes, reads_psum,
        form.cost.flops,
    )  # fmt: skip
    if dma is None:
        return made
    return replace(
        made,
        busy_ps=transfer(dma, form.core.dma).work_ps,
        bytes=dma.bytes,
        descriptors=dma.descriptors,
        row_bytes=dma.element_bytes,
        trigger=dma.trigger,
    )


def traffic_of(programs: Iterable[Program]) -> tuple[Traffic, ...]:
    """Return the tensors in HBM that the programs of some cores move, the most moved first."""
    read: dict[Tensor, int] = defaultdict(int)
    written: dict[Tensor, int] = defaultdict(int)
    for program in programs:
        for block, indices in program.leaves():
            times = prod(index.trip for index in indices)
            for tensor, size, kind in _moved(program, block):
                if kind in READ_KINDS:
                    read[tensor] += size * times
                if kind in WRITE_KINDS:
                    written[tensor] += size * times
    found = [
        Traffic(t.name, prod(t.shape) * t.dtype.itemsize, read[t], written[t])
        for t in dict.fromkeys([*read, *written])
    ]
    return tuple(sorted(found, key=lambda t: -(t.read_bytes + t.written_bytes)))


def _moved(program: Program, block: Block) -> Iterator[tuple[Tensor, int, str]]:
    """Yield tensor, bytes and kind of each operand in HBM of the block's transfers."""
    sizes: dict[int, list[tuple[int, int, str]]] = {}
    for form, first in zip(block.form, block.first, strict=True):
        if form not in sizes:
            sizes[form] = list(_hbm_operands(program.forms[form]))
        for operand, size, kind in sizes[form]:
            yield program.tensors[block.tensor[first + operand]], size, kind


def _hbm_operands(form: Form) -> Iterator[tuple[int, int, str]]:
    if form.cost.dma is None:
        return
    for number, (name, kind) in enumerate(form.operand_fields):
        if "." in name:
            continue
        view: AccessPattern = getattr(form.example, name)
        if not view.buffer.is_on_chip:
            # What a stride of 0 repeats within a transfer counts once.
            counts = (n for n, stride in zip(view.shape, view.strides, strict=True) if stride)
            yield number, prod(counts) * view.dtype.itemsize, kind


def figures_of(chip: Chip) -> Figures:
    """Return the figures of a chip's core, and of the memory stack that it may share."""
    core = chip.core
    timing, dma = core.timing, core.dma
    return Figures(
        partitions=core.partitions,
        shortest_cycles=timing.min_issue_cycles,
        pe_tflops=core.tensor_tflops("bfloat16"),
        fp32_passes=int(timing.fp32_passes),
        table_load_ps=round(timing.act_table_load_ns * 1000),
        hbm_gb_per_s=chip.hbm_stack_gb_per_s * chip.hbm_efficiency,
        dma_gb_per_s=dma.core_gb_per_s,
        full_row_bytes=dma.element_full_bytes,
        software_descriptor_ps=round((dma.swdge_extra_ns + dma.gpsimd_trigger_ns) * 1000),
        perf_dtypes=core.vector.perf_dtypes,
    )
