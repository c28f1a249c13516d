"""Work: what a program asks of the machine, line by line, apart from when it happens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """Equal instructions of one line of a core: `count` of them, and what one of them is.

    `busy_ps` is its time undisturbed: at full clock, or with all of the core's DMA to itself.
    `elements` are those of a partition, `dtypes` those of its operands, outputs first. Of a DMA
    `row_bytes` is the shortest contiguous run, and `trigger` who writes its descriptors.
    """

    group: str
    engine: str
    mnemonic: str
    count: int
    busy_ps: int
    partitions: int
    elements: int
    dtypes: tuple[str, ...]
    reads_psum: bool = False
    flops: int = 0
    bytes: int = 0
    descriptors: int = 0
    row_bytes: int = 0
    trigger: str = ""
    core: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """A tensor in HBM: its size, and the bytes that all cores read and write of it."""

    tensor: str
    size_bytes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of the machine that a profile is measured against: of a core, and of its HBM stack.

    `shortest_cycles` is the least time of an instruction on its engine; `perf_dtypes` are the types
    that the vector engine takes faster than others, none if it has no such modes.
    """

    partitions: int
    shortest_cycles: int
    pe_tflops: float
    fp32_passes: int
    table_load_ps: int
    hbm_gb_per_s: float
    dma_gb_per_s: float
    full_row_bytes: int
    software_descriptor_ps: int
    perf_dtypes: tuple[str, ...]
