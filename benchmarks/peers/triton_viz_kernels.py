"""Run a workload on the NKI interpreter of triton-viz, from a copy named by TRITON_VIZ.

The interpreter alone is run, without tracing. AWS's `nki` package, of which it takes names only,
is stood in for by ours; its own package file, which needs what a viewer needs, is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import emuron_kernels
import nki_kernels
import numpy as np
import workloads


def _interpreter() -> Any:
    root = Path(os.environ["TRITON_VIZ"]) / "triton_viz"
    if not root.is_dir():
        raise ImportError(f"{root} is not there")
    for name in ("triton_viz", "triton_viz.core"):
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    for name in ("nki", "nki.isa", "nki.language"):
        sys.modules[name] = import_module(f"emuron.{name}")
    return import_module("triton_viz.core.simulation.nki_beta2")


def prepare(work: workloads.Workload) -> Mapping[str, Callable[[], Any]]:
    """Return how triton-viz's interpreter runs a workload."""
    interpreter = _interpreter()
    interpreter.nki_patch_lang()
    nki_kernels.use(interpreter.nl, interpreter.nisa)
    kernel = getattr(nki_kernels, work.kind)
    arrays = emuron_kernels.turned(work)
    extra = [workloads.SCALE] if work.kind.startswith("attention") else []
    extra += [work.keys] if work.kind == "attention" else []
    function = interpreter.NKIBeta2InterpretedFunction(kernel)

    def run() -> Any:
        out = np.empty(work.expected.shape, arrays[-1].dtype)
        function.run(*arrays, out, *extra)
        return out

    return {"triton-viz": run}


if __name__ == "__main__":
    workloads.main(prepare)
