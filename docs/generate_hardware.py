"""Write docs/reference/hardware.md from the hardware data: python docs/generate_hardware.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from emuron.hardware.catalog import chips, citations, instances
from emuron.hardware.chip import Chip
from emuron.hardware.core import NeuronCore
from emuron.hardware.instance import Instance
from emuron.hardware.price import Price
from emuron.hardware.record import figures

PAGE = Path(__file__).parent / "reference" / "hardware.md"

INTRODUCTION = """\
# Hardware

Every figure that emuron computes with, and where it is stated. This page is generated from the
data files of `emuron/hardware/data`; `emuron chips NAME --sources` prints the same.

A source is a document (its short name is explained [below](#sources)), or one of

* **measured**: read off published profiles or times, often of one generation only;
* **assumed**: nobody states it; the line says what it rests on;
* **fitted**: adjusted until predictions met published measurements.

1 GB is 10^9 bytes. A dash means that nothing is published.
"""


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the text of the page."""
    cores = tuple(dict.fromkeys(chip.core for chip in chips()))
    parts = [
        INTRODUCTION,
        "## Chips\n",
        table(("chip", "NeuronCores", "memory GiB", "GB/s", "BF16 TFLOPS"), map(chip_row, chips())),
        "## Instances\n",
        table(
            ("instance", "chips", "cores", "memory GiB", "vCPU", "host GiB", "topology"),
            map(instance_row, instances()),
        ),
        "### Prices\n",
        "US dollars an hour. Prices are dated: they say what was stated, not what holds today.\n",
        table(("instance", "kind", "$/hour", "stated", "region", "source"), price_rows()),
    ]
    parts += [entry_section(f"Figures of {chip.name}", chip) for chip in chips()]
    parts += [entry_section(f"Figures of NeuronCore-{core.version}", core) for core in cores]
    parts += [entry_section(f"Figures of {entry.name}", entry) for entry in instances()]
    parts += ["## Sources\n", table(("name", "stands for"), citation_rows())]
    return "\n".join(parts)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; None becomes a dash."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines)


def cell(value: object) -> str:
    """Return `value` as the text of a table cell."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}" if value != int(value) else str(int(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(cell, value)) or "none"
    return str(value).replace("|", "\\|")


def chip_row(chip: Chip) -> Sequence[object]:
    """Return the row of a chip in the overview."""
    return (
        chip.name,
        f"{chip.cores} x {chip.core.version}",
        chip.hbm_bytes / 2**30,
        chip.hbm_gb_per_s,
        chip.peak_tflops("bfloat16"),
    )


def instance_row(entry: Instance) -> Sequence[object]:
    """Return the row of an instance in the overview."""
    return (
        entry.name,
        f"{entry.chips} x {entry.chip.name}",
        entry.cores,
        entry.hbm_bytes / 2**30,
        entry.vcpu,
        entry.host_gib,
        entry.topology.kind,
    )


def price_rows() -> Iterable[Sequence[object]]:
    """Yield a row a price, by instance."""
    for entry in instances():
        for price in entry.prices:
            stated = days(price)
            yield entry.name, price.kind, price.usd_per_hour, stated, price.region, price.source


def days(price: Price) -> str:
    """Return the days between which a price was stated."""
    if price.first and price.last and price.first != price.last:
        return f"{price.first} to {price.last}"
    return str(price.stated)


def entry_section(title: str, entry: NeuronCore | Chip | Instance) -> str:
    """Return every figure of `entry` with its source, and what other sources state."""
    rows = [
        (f"`{path}`", value, source)
        for path, value, source in figures(entry)
        if not path.startswith("prices[")
    ]
    text = f"## {title}\n\n{table(('figure', 'value', 'source'), rows)}"
    if entry.alternatives:
        notes = [(f"`{note.path}`", note.value, note.source) for note in entry.alternatives]
        text += "\nStated otherwise elsewhere:\n\n"
        text += table(("figure", "alternative", "source"), notes)
    return text


def citation_rows() -> Iterable[Sequence[object]]:
    """Yield a row a citation."""
    for name, full in citations().items():
        yield name, f"`{full}`"


if __name__ == "__main__":
    main()
