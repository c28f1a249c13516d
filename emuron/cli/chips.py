"""`emuron chips`: the chips, their figures, and where each figure is stated."""

from __future__ import annotations

from typing import Annotated

import typer

from emuron.cli.hardware_tables import (
    gib,
    number,
    number_or_dash,
    print_alternatives,
    print_citations,
    print_figures,
    sourced_record,
)
from emuron.cli.output import Json, print_json, print_table
from emuron.hardware import catalog
from emuron.hardware.chip import Chip
from emuron.hardware.record import to_record

Name = Annotated[
    str | None, typer.Argument(help="A chip, as inferentia2 or inf2; without it, all are listed.")
]
Sources = Annotated[
    bool,
    typer.Option(
        "--sources", help="Print every figure with its source, and what other sources state."
    ),
]


def chips(name: Name = None, sources: Sources = False, as_json: Json = False) -> None:
    """List the chips: cores, memory, bandwidth, peak rates and links.

    With a NAME, print that chip and its NeuronCore: `emuron chips trn2 --sources`.
    """
    chosen = catalog.chips() if name is None else (catalog.chip(name),)
    if as_json:
        records = [chip_record(chip) for chip in chosen]
        print_json(records[0] if name else {"chips": records})
        return
    if name is None:
        print_overview(chosen)
    else:
        print_chip(chosen[0])
    if sources:
        print_sources(chosen)


def chip_record(chip: Chip) -> dict[str, object]:
    """Return a chip and its NeuronCore, all figures with sources, as JSON types."""
    core = to_record(chip.core)
    return sourced_record(chip) | {"core": core}


def print_overview(chosen: tuple[Chip, ...]) -> None:
    """Print one row a chip, narrow enough for 80 columns."""
    sizes = ("cores", "memory GiB", "GB/s", "BF16 TFLOPS", "FP32 TFLOPS", "link GB/s")
    rows = [
        (
            chip.name,
            chip.aliases[0],
            chip.core.version,
            chip.cores,
            gib(chip.hbm_bytes),
            f"{chip.hbm_gb_per_s:.0f}",
            number_or_dash(chip.peak_tflops("bfloat16")),
            number_or_dash(chip.peak_tflops("float32")),
            f"{chip.links.intra_gb_per_s:.0f}",
        )
        for chip in chosen
    ]
    caption = "1 GB is 10^9 bytes. link: NeuronLink within the instance. NAME shows more."
    columns = ("chip", "also", "core", *sizes)
    print_table(columns, rows, title="Chips", right=sizes, whole=("chip",), caption=caption)


def print_chip(chip: Chip) -> None:
    """Print what matters of one chip and of its NeuronCore."""
    core = chip.core
    peaks = ", ".join(f"{dtype} {number(tflops)}" for dtype, tflops in chip.peaks_tflops)
    clocks = ", ".join(f"{engine.name} {engine.clock_ghz:g}" for engine in core.engines)
    matmul = ", ".join(f"{t} {core.tensor_tflops(t):.4g}" for t in core.matmul_dtypes)
    rows = [
        ("cores", f"{chip.cores} NeuronCores-{core.version}, {chip.logical_cores} logical"),
        ("memory", f"{gib(chip.hbm_bytes)} GiB {chip.memory_kind} in {chip.hbm_stacks} parts"),
        ("memory bandwidth", f"{number(chip.hbm_gb_per_s)} GB/s"),
        ("peaks, advertised", f"{peaks} TFLOPS"),
        ("links", f"{chip.links.links} x {number(chip.links.link_gb_per_s, 4)} GB/s in instance"),
        ("DMA engines", f"{chip.dma_engines}, {number(core.dma.core_gb_per_s)} GB/s a core"),
        ("host copies", f"{number(chip.host_dma_gb_per_s)} GB/s"),
        ("engine clocks", f"{clocks} GHz"),
        ("matmul peaks, a core", f"{matmul} TFLOPS"),
        ("SBUF, a core", f"{core.partitions} x {core.sbuf_bytes_per_partition // 1024} KiB"),
        ("PSUM, a core", f"{core.partitions} x {core.psum_bytes_per_partition // 1024} KiB"),
        ("data types", ", ".join(core.dtypes)),
    ]
    names = f"{chip.name} (also {', '.join(chip.aliases)})"
    caption = "--sources shows every figure, its source and what other sources state."
    print_table(("", ""), rows, title=names, caption=caption)


def print_sources(chosen: tuple[Chip, ...]) -> None:
    """Print every figure of the chips and their cores with its source."""
    for chip in chosen:
        print_figures(f"Figures of {chip.name}", chip)
    cores = tuple(dict.fromkeys(chip.core for chip in chosen))
    for core in cores:
        print_figures(f"Figures of NeuronCore-{core.version}", core)
    print_alternatives(*chosen, *cores)
    print_citations(*chosen, *cores)
