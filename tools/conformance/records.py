"""What a conformance run writes down of each case: a line of JSON."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(slots=True)
class CaseRecord:
    """One case of a public test file: what it ran, whether it is right, how long it would take.

    `kernel` is the test file's subject (test_rope.py: rope), `function` the kernel launched.
    `tables` names the lists of the test module whose row the case is, `params` its parameters,
    `arguments` what the kernel was called with ("bfloat16[1, 128]" for an array). `predicted_ps` is
    None where the kernel could not be timed; `note` then says why. `executed` tells whether it ran
    with data; `outcome` is passed, failed, timed (without data), skipped, or upstream for a failure
    by the repository's own fault.
    """

    file: str
    test: str
    kernel: str
    tables: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    function: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    lnc: int | None = None
    ranks: int | None = None
    target: str | None = None
    executed: bool = False
    outcome: str | None = None
    instructions: int | None = None
    predicted_ps: int | None = None
    seconds: float = 0.0
    note: str | None = None

    def append_to(self, path: Path) -> None:
        """Append the record to a file of JSON lines."""
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), ensure_ascii=False) + "\n")


def read_records(path: Path) -> list[CaseRecord]:
    """Return the records of a file of JSON lines, none if there is no file."""
    if not path.exists():
        return []
    return [CaseRecord(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: enums by name, arrays as dtype and shape."""
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.ndarray):
        kind = value.dtype.names[0] if value.dtype.names else value.dtype
        return f"{kind}{list(value.shape)}"
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return getattr(value, "__name__", None) or type(value).__name__


def flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with those inside of mappings beside the others."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        shown = plain(value)
        found |= flat(shown) if isinstance(shown, dict) else {name: shown}
    return found
