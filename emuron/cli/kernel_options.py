"""The options that the commands about kernels share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path, typer.Argument(help="A Python file with kernels (@nki.jit).")]
KernelName = Annotated[str | None, typer.Option("--kernel", help="Run this kernel only.")]
CaseName = Annotated[
    str | None, typer.Option("--case", help="Run the cases whose name contains this.")
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="An argument of --kernel: a=f32[128,512] (random numbers), scale=0.5; once for each.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="Chip, generation or instance: inf2, trn1, trn2, trn3, gen3, inf2.xlarge. Default: "
        "NEURON_PLATFORM_TARGET_OVERRIDE, else trn2.",
    ),
]
NoData = Annotated[
    bool, typer.Option("--no-data", help="Time the kernels without computing anything.")
]
TracePath = Annotated[
    Path | None, typer.Option("--trace", help="Write a Perfetto timeline: out.json or .json.gz.")
]
ReportPath = Annotated[Path | None, typer.Option("--report", help="Write an HTML report.")]
