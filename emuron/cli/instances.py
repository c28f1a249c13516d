"""`emuron instances`: the EC2 instances, their sizes, links and prices."""

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
from emuron.errors import UsageError
from emuron.hardware import catalog
from emuron.hardware.instance import Instance

Name = Annotated[
    str | None, typer.Argument(help="An instance, as inf2.xlarge; without it, all are listed.")
]
Family = Annotated[
    str | None, typer.Option("--family", help="List one family: inf1, inf2, trn1, trn2, trn3.")
]
Sources = Annotated[
    bool,
    typer.Option(
        "--sources", help="Print every figure with its source, and what other sources state."
    ),
]


def instances(
    name: Name = None, family: Family = None, sources: Sources = False, as_json: Json = False
) -> None:
    """List the instances: chips, cores, memory, bandwidth, peak rates and prices.

    With a NAME, print that instance with every price known: `emuron instances inf2.xlarge`.
    """
    if name is not None and family is not None:
        raise UsageError("give a NAME or --family, not both: a name is of one family already")
    chosen = catalog.instances(family) if name is None else (catalog.instance(name),)
    if as_json:
        records = [sourced_record(instance) for instance in chosen]
        print_json(records[0] if name else {"instances": records})
        return
    if name is None:
        print_overview(chosen)
    else:
        print_instance(chosen[0])
    if sources:
        for instance in chosen:
            print_figures(f"Figures of {instance.name}", instance)
        print_alternatives(*chosen)
        print_citations(*chosen)


def print_overview(chosen: tuple[Instance, ...]) -> None:
    """Print one row an instance, narrow enough for 80 columns."""
    sizes = ("chips x cores", "memory GiB", "GB/s", "BF16 TFLOPS", "on demand $/h", "RI $/h")
    rows = [
        (
            entry.name,
            f"{entry.chips}x{entry.chip.cores}",
            gib(entry.hbm_bytes),
            f"{entry.hbm_gb_per_s:.0f}",
            number_or_dash(entry.peak_tflops("bfloat16")),
            _usd(entry, "on_demand"),
            _usd(entry, "ri_effective"),
        )
        for entry in chosen
    ]
    caption = "Physical cores. Prices: newest known, RI reserved. NAME shows all, and links."
    columns = ("instance", *sizes)
    print_table(columns, rows, title="Instances", right=sizes, whole=("instance",), caption=caption)


def print_instance(entry: Instance) -> None:
    """Print one instance with all its prices."""
    topology = entry.topology
    rows = [
        ("chips", f"{entry.chips} {entry.chip.name}"),
        ("cores", f"{entry.cores} physical, {entry.logical_cores} logical"),
        ("device memory", f"{gib(entry.hbm_bytes)} GiB, {number(entry.hbm_gb_per_s)} GB/s"),
        ("BF16 peak", f"{number_or_dash(entry.peak_tflops('bfloat16'))} TFLOPS, advertised"),
        ("host", f"{entry.vcpu or '?'} vCPU, {entry.host_gib or '?'} GiB"),
        ("network", _network(entry)),
        ("topology", f"{topology.kind}, {topology.chips_per_server} chips a server"),
        ("NeuronLink", _unit(entry.link_gb_per_s_per_chip, "GB/s a chip")),
        ("built of", entry.built_of),
    ]
    print_table(("", ""), rows, title=entry.name)
    columns = ("price", "$/hour", "first stated", "last stated", "region", "source")
    prices = [
        (p.kind, f"{p.usd_per_hour:g}", p.first, p.last, p.region, p.source) for p in entry.prices
    ]
    if prices:
        print_table(columns, prices, title="Prices", right={"$/hour"})
    else:
        typer.echo("No price is known: none was found in a public source.")


def _usd(entry: Instance, kind: str) -> str | None:
    price = entry.price(kind)
    return f"{price.usd_per_hour:.5g}" if price else None


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{number(value)} {unit}"


def _network(entry: Instance) -> str | None:
    figure = _unit(entry.network_gbps, "Gbit/s")
    return f"up to {figure}" if figure and entry.network_up_to else figure
