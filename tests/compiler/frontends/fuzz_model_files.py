"""Opens damaged copies of a model, one after another, within limits of time and memory.

Run as a process of its own:
`python -m tests.compiler.frontends.fuzz_model_files MODEL SECONDS SHAPES`, the last as JSON: the
shapes of inputs that the file leaves open. Prints one JSON object: how many cases there were, how
many were refused, and the faults.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from emuron.compiler.frontends.files import open_path
from emuron.errors import EmuronError
from tests.compiler.frontends.mutations import mutations_of

MOST_SECONDS = 5
"""Processor time that opening a damaged file may take (issue 4)."""

MOST_BYTES = 1 << 31
"""What it may allocate beyond what is imported."""

BATCH, SEQUENCE = 1, 8


class TooSlowError(BaseException):
    """A case that takes longer than it may; no EmuronError, and caught by nobody."""


def main(model: Path, seconds: float, shapes: dict[str, list[int]]) -> None:
    """Open damaged copies for a time and print what became of them."""
    warnings.simplefilter("ignore")
    if (error := opened(model, shapes)) is not None:
        raise error
    _limit_memory()
    signal.signal(signal.SIGPROF, _too_slow)
    faults: list[str] = []
    cases = refused = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(faults) < 5:
        with damaged(model, cases) as copy:
            signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
            try:
                refused += opened(copy, shapes) is not None
            except BaseException as error:  # noqa: BLE001 - any other error is a fault
                signal.setitimer(signal.ITIMER_PROF, 0)
                where = [
                    f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)
                ]
                text = str(error)[:300]
                faults.append(f"case {cases}: {type(error).__name__}: {text} at {where[-4:]}")
            signal.setitimer(signal.ITIMER_PROF, 0)
        cases += 1
    sys.stdout.write(json.dumps({"cases": cases, "refused": refused, "faults": faults}))


def opened(model: Path, shapes: dict[str, list[int]]) -> EmuronError | None:
    """Open a model, build its graph and read its weights; return how it was refused, if it was."""
    given: Any = {"shapes": {n: tuple(s) for n, s in shapes.items()}} if shapes else {}
    try:
        graph = open_path(model).graph(BATCH, SEQUENCE, **given)
        for parameter in graph.parameters:
            parameter.load()
    except EmuronError as error:
        return error
    return None


@contextmanager
def damaged(model: Path, case: int) -> Iterator[Path]:
    """Give a copy of a file or folder of which one file is damaged, by the number of the case."""
    random = Random(f"{model.name} {case}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / model.name
        if model.is_dir():
            shutil.copytree(model, copy)
            files = sorted(p for p in copy.rglob("*") if p.is_file())
        else:
            # The parameters of a symbol lie beside it.
            for file in model.parent.iterdir():
                shutil.copyfile(file, copy.with_name(file.name))
            files = sorted(copy.parent.iterdir())
        file = random.choice(files)
        file.write_bytes(random.choice(mutations_of(file.name))(random, file.read_bytes()))
        yield copy


def _limit_memory() -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, held + MOST_BYTES))


def _too_slow(*_: Any) -> None:
    raise TooSlowError


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3]))
