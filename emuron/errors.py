"""Every error that emuron raises on purpose, in one tree.

A message speaks to the user: it names what was wrong and where, the limit and the value found, and
the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

EXTRA_OF_MODULE: Mapping[str, str] = MappingProxyType(
    {
        "torch": "torch",
        "transformers": "diffusers",
        "diffusers": "diffusers",
        "jax": "jax",
        "jaxlib": "jax",
        "flax": "jax",
        "keras": "keras",
        "onnx": "onnx",
        "fastapi": "serve",
        "uvicorn": "serve",
        "prometheus_client": "serve",
        "numba": "fast",
        "ray": "ray",
    }
)
"""The extra of pyproject.toml that installs each optional top-level module."""

_MOST_NAMES_LISTED = 40


class EmuronError(Exception):
    """The root of all errors meant for the user."""


class UsageError(EmuronError):
    """An argument or option that cannot be what the user meant."""


class WrongCallError(UsageError, TypeError):
    """A call of an nki function with arguments that it cannot take (a TypeError in Python)."""


class FrozenRegisterError(UsageError, AssertionError):
    """A write to the register that counts a dynamic loop (an AssertionError in NKI)."""


class SubsetError(UsageError):
    """Python in a kernel that the compiler of NKI refuses; each with its line and the way out."""


class UnknownNameError(UsageError):
    """A name that is not in a list of known names; suggests the closest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        close = get_close_matches(name.lower(), self.known, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        super().__init__(f"Unknown {kind} '{name}'.{hint} {self._listing()}")

    def _listing(self) -> str:
        if not self.known:
            return f"No {self.kind} is known here."
        shown = ", ".join(self.known[:_MOST_NAMES_LISTED])
        left_out = len(self.known) - _MOST_NAMES_LISTED
        return f"Known: {shown}{f' and {left_out} more' if left_out > 0 else ''}."

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.name, self.known)


class PromptTooLongError(UsageError):
    """A prompt (with its asked-for answer) beyond the longest sequence the model is served with."""


class ModelFileError(EmuronError):
    """A model file or folder that is missing, damaged or of a layout that is not read."""


class UnsupportedOpError(EmuronError):
    """An operator of a model that has no lowering and may not run on the host."""


class HardwareLimitError(EmuronError):
    """An operand, shape or dtype that the hardware refuses."""


class CapacityError(EmuronError):
    """More SBUF, PSUM or HBM than there is."""


class UninitializedReadError(EmuronError):
    """A read of memory that nothing has written."""


class OutOfBoundsError(EmuronError):
    """An access outside a tensor or a memory."""


class RaceError(EmuronError):
    """Two accesses to the same bytes, one of them a write, that nothing orders."""


class LostValueError(EmuronError):
    """A read of a tensor whose bytes another one, placed on them, has overwritten since."""


class RaceWarning(UserWarning):
    """A race that was asked to be told only, or two values that one transfer puts in one place."""


class DeadlockError(EmuronError):
    """A wait that nothing can end."""


class WrongTargetError(EmuronError):
    """An executable loaded on another chip than it was compiled for."""


class ServerError(EmuronError):
    """A server that could not start or go on."""


class MissingExtraError(EmuronError):
    """An optional dependency that is not installed; names the extra that brings it."""

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra = extra
        self.needed_for = needed_for
        super().__init__(
            f"{needed_for} needs the '{extra}' extra, which is not installed. "
            f"Install it with: pip install 'emuron[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.extra, self.needed_for)


def missing_extra(error: ImportError, needed_for: str) -> MissingExtraError | None:
    """Return the MissingExtraError that a failed import stands for; None if no extra brings it."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRA_OF_MODULE.get(module)
    return MissingExtraError(extra, needed_for) if extra else None
