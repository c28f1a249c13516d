"""How the published tables were measured: the inferences that they keep in flight."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from emuron.compiler.frontends.zoo import zoo
from emuron.hardware.instance import Instance
from emuron.planner.measurements import Measurement

_FILE = Path(__file__).with_name("protocols.toml")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How many workers some rows had, on the whole instance or on each core; `source` says whence.

    An empty field matches every row; one worker a core is the rule without a protocol.
    """

    families: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    application: str = ""
    framework: str = ""
    workers: int | None = None
    workers_per_core: int = 1
    source: str = ""

    def covers(self, row: Measurement, model: str, target: Instance) -> bool:
        """Tell whether a row, which means the zoo's `model`, was measured so."""
        return (
            (not self.families or zoo()[model].family in self.families)
            and (not self.models or model in self.models)
            and (not self.instances or target.family in self.instances)
            and self.application in ("", row.application.lower())
            and self.framework in ("", row.framework.lower().partition(" ")[0])
        )

    def count(self, cores: int) -> int:
        """Return the workers of an instance with so many cores in use."""
        return self.workers if self.workers is not None else self.workers_per_core * cores


@cache
def protocols() -> tuple[Protocol, ...]:
    """Return the protocols of protocols.toml, in order."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))["protocol"]
    return tuple(Protocol(**_frozen(table)) for table in tables)


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def workers_of(row: Measurement, model: str, target: Instance) -> int:
    """Return how many inferences of the zoo's `model` a row kept in flight."""
    cores = row.cores or target.cores
    found = (p for p in protocols() if p.covers(row, model, target))
    return next(found, Protocol()).count(cores)
