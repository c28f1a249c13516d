"""The enumerations of `nki.isa`: each member equals its name as a string.

Members and values: `nki.isa` reference (`nki_api.md` §6.1). Programs hold members as strings, so
that a member, its name and (in old code) its number mean the same.
"""

from __future__ import annotations

import enum
from typing import TypeVar

from emuron.errors import UnknownNameError
from emuron.nki.earlier_forms import use

M = TypeVar("M", bound="NamedMember")


class NamedMember(enum.StrEnum):
    """A member that equals and hashes as its string, with NKI's number or name as its value."""

    def __new__(cls, text: str, number: object) -> NamedMember:
        """Make a member from its string and NKI's value."""
        member = str.__new__(cls, text)
        member._value_ = number  # type: ignore[assignment]
        return member

    __hash__ = str.__hash__

    def __repr__(self) -> str:
        return repr(str(self))

    @classmethod
    def of(cls: type[M], given: object) -> M:
        """Return the member meant by a member, a name or a number; raise UnknownNameError."""
        for member in cls:
            if isinstance(given, str) and str(member) == given:
                return member
            if given == member.value:
                if isinstance(given, int):
                    use("enum number")
                return member
        raise UnknownNameError(f"nisa.{cls.__name__}", str(given), map(str, cls))


class engine(NamedMember):
    """The engine that runs an instruction; `unknown` leaves the choice to the default rule."""

    unknown = ("unknown", 0)
    tensor = ("tensor", 1)
    scalar = ("scalar", 2)
    gpsimd = ("gpsimd", 3)
    dma = ("dma", 4)
    vector = ("vector", 5)
    sync = ("sync", 6)


class reduce_cmd(NamedMember):
    """What an instruction does with the accumulator registers of its engine."""

    idle = ("idle", 0)
    reset = ("reset", 1)
    reduce = ("reduce", 2)
    reset_reduce = ("reset_reduce", 3)
    load_reduce = ("load_reduce", 4)


class dge_mode(NamedMember):
    """How the descriptors of a DMA transfer come about."""

    unknown = ("unknown", 0)
    swdge = ("swdge", 1)
    hwdge = ("hwdge", 2)
    none = ("none", 3)


class oob_mode(NamedMember):
    """What happens to an index out of range."""

    error = ("error", 0)
    skip = ("skip", 1)


class matmul_perf_mode(NamedMember):
    """Performance modes of `nc_matmul`."""

    none = ("none", "none")
    double_row = ("double_row", "double_row")


class dma_engine(NamedMember):
    """What moves the data of `sendrecv`."""

    dma = ("dma", 1)
    gpsimd_dma = ("gpsimd_dma", 2)


class nc_version(enum.IntEnum):
    """The generations of NeuronCore, in order."""

    gen2 = 2
    gen3 = 3
    gen4 = 4


OF_ATTRIBUTE = {
    "engine": engine,
    "reduce_cmd": reduce_cmd,
    "dge_mode": dge_mode,
    "oob_mode": oob_mode,
    "perf_mode": matmul_perf_mode,
    "dma_engine": dma_engine,
}
"""The enumeration of each attribute of an instruction that is one."""
