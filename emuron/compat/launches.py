"""The kernels that a process launches, each with its time, as lines of JSON.

`emuron exec` names a folder in the environment; each process writes a file of its own there.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from emuron.errors import EmuronError
from emuron.nki.launch import timed
from emuron.nki.recording import Recording, observe_launches

FOLDER_VARIABLE = "EMURON_LAUNCHES"


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: the kernel, where it ran, how long it takes.

    `total_ps` is None where the hardware refuses the kernel; `error` then says why.
    """

    kernel: str
    target: str
    cores: int
    instructions: int
    total_ps: int | None
    error: str | None = None


def record_launches() -> None:
    """Write down every launch from now on, if the environment names a folder for that."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        observe_launches(_Log(Path(folder) / f"{os.getpid()}.jsonl"))


def read_launches(folder: Path) -> list[Launch]:
    """Return the launches that processes wrote down, process by process."""
    files = sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return [Launch(**json.loads(line)) for line in lines]


class _Log:
    """Times each recording and appends it; one like the kernel's last is not timed again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, tuple[Recording, Launch]] = {}

    def __call__(self, recording: Recording) -> None:
        name = recording.programs[0].name
        last = self._last.get(name)
        launch = last[1] if last and _alike(last[0], recording) else _launch(recording)
        self._last[name] = (recording, launch)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(launch)) + "\n")


def _alike(a: Recording, b: Recording) -> bool:
    pairs = zip(a.programs, b.programs, strict=False)
    same = a.chip is b.chip and len(a.programs) == len(b.programs)
    return same and all(x.is_like(y) for x, y in pairs)


def _launch(recording: Recording) -> Launch:
    first, cores = recording.programs[0], len(recording.programs)
    count = sum(map(len, recording.programs))
    try:
        total = timed(recording, collect=False).timing.total_ps
    except EmuronError as error:
        return Launch(first.name, recording.chip.name, cores, count, None, str(error))
    return Launch(first.name, recording.chip.name, cores, count, total)
