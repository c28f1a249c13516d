"""Runs as a Python process starts under `emuron exec`: installs the stand-ins.

This folder is put on PYTHONPATH. A `sitecustomize` of the environment's own, which this one
hides, runs after it.
"""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def _run_hidden() -> None:
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    spec = PathFinder.find_spec("sitecustomize")
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


try:
    import emuron.compat  # noqa: F401 (importing it is the point)
except ImportError as error:
    sys.exit(
        f"emuron exec: {sys.executable} cannot import emuron ({error}). "
        "Install emuron in its environment, or run the command with emuron's own Python."
    )
_run_hidden()
