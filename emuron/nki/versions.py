"""Which version of NKI a kernel is held to.

By default the union of all versions is taken, and what later ones gave up warns. Held to one
version, by `strict`, an argument of the launch or EMURON_NKI_VERSION, a kernel gets an error for
what that version does not have (`nki_api.md` §1 and §13).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

from emuron.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from emuron.isa.instruction import Instruction

VERSIONS = ("0.2", "0.3", "0.4", "0.5", "0.6", "0.7")
VERSION_VARIABLE = "EMURON_NKI_VERSION"
BEHAVIOUR_VARIABLE = "EMURON_NKI_BEHAVIOUR"

_held: ContextVar[str | None] = ContextVar("held", default=None)

INSTRUCTIONS_SINCE: Mapping[str, str] = MappingProxyType({"activate2": "0.4", "topk": "0.6"})
"""The first version of each instruction that 0.2 did not have."""

ARGUMENTS_SINCE: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("activation", "engine"): "0.7",
        ("dma_compute", "oob_mode"): "0.6",
        ("dma_copy", "engine"): "0.3",
        ("dma_copy", "priority"): "0.6",
        ("dma_transpose", "priority"): "0.6",
        ("nc_matmul", "accumulate"): "0.3",
        ("nc_matmul_mx", "accumulate"): "0.3",
        ("tensor_scalar_reduce", "reduce_cmd"): "0.6",
        ("tensor_scalar_reduce", "reduce_init"): "0.6",
        ("tensor_scalar_reduce", "reduce_res_negate"): "0.6",
    }
)
"""The first version of each argument that came after its instruction."""


@contextmanager
def strict(version: str | None) -> Iterator[None]:
    """Hold the kernels launched inside to one version of NKI ("0.2" to "0.7"); None to none.

    Raises UnknownNameError for another version.
    """
    token = _held.set(None if version is None else _known(version))
    try:
        yield
    finally:
        _held.reset(token)


@contextmanager
def held_to(version: str | None) -> Iterator[None]:
    """Hold kernels as `strict` does; with None leave what holds already."""
    with nullcontext() if version is None else strict(version):
        yield


def held_version() -> str | None:
    """Return the version that a kernel launched now is held to; None for the union of all."""
    return _held.get() or _known(os.environ.get(VERSION_VARIABLE) or "") or None


def behaves_before(version: str) -> bool:
    """Return whether instructions give what they gave before a version changed their results.

    They do in a kernel held to an earlier version, and where EMURON_NKI_BEHAVIOUR names one, which
    refuses nothing.
    """
    meant = held_version() or _known(os.environ.get(BEHAVIOUR_VARIABLE) or "")
    return bool(meant) and is_before(meant, version)


def _known(version: str) -> str:
    if version and version not in VERSIONS:
        raise UnknownNameError("NKI version", version, VERSIONS)
    return version


def is_before(version: str, other: str) -> bool:
    """Return whether a version came out before another."""
    return VERSIONS.index(version) < VERSIONS.index(other)


def refuse_later(version: str, example: Instruction, defaults: Mapping[str, object]) -> None:
    """Raise UsageError if an instruction, or an argument that is not the default, came later."""
    first = INSTRUCTIONS_SINCE.get(example.mnemonic, VERSIONS[0])
    if is_before(version, first):
        raise missing(version, f"nisa.{example.mnemonic}", first)
    for name in example.attributes:
        first = ARGUMENTS_SINCE.get((example.mnemonic, name), VERSIONS[0])
        if is_before(version, first) and getattr(example, name) != defaults.get(name):
            raise missing(version, f"{name}= of nisa.{example.mnemonic}", first)


def missing(version: str, what: str, first: str) -> UsageError:
    """Return the error for what a version does not have yet."""
    return UsageError(
        f"{what} exists from NKI {first} on; this kernel is held to NKI {version}. "
        f"Write it with what {version} has, or hold the kernel to a later version."
    )
