"""Stands in for nki-library's private `test.utils.scripts.remote_lock_scripts`.

The public harness reads these answers of a script on a hardware host; no simulated run asks one.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass


class LockStatus(enum.Enum):
    """What a host's lock script answers."""

    ALLOCATED = "allocated"
    RELEASED = "released"
    DRAINED = "drained"
    DRAINING = "draining"
    UNDRAINED = "undrained"
    NO_CORES = "no_cores"
    FLOCK_TIMEOUT = "flock_timeout"
    ERROR = "error"

    @property
    def exit_code(self) -> int:
        """The script's exit code for the answer."""
        return list(LockStatus).index(self)

    @classmethod
    def from_exit_code(cls, code: int) -> LockStatus:
        """Return the answer of an exit code; unknown codes are errors."""
        members = list(cls)
        return members[code] if 0 <= code < len(members) else cls.ERROR


@dataclass(frozen=True)
class LockResult:
    """An answer with what comes with it."""

    status: LockStatus
    cores: list[int] | None = None
    max_lock_expiry: int | None = None
    message: str | None = None

    def to_json(self) -> str:
        """Return the answer as the script prints it."""
        return json.dumps({**asdict(self), "status": self.status.value})

    @classmethod
    def from_json(cls, text: str) -> LockResult:
        """Read a printed answer."""
        fields = json.loads(text)
        return cls(**{**fields, "status": LockStatus(fields["status"])})
