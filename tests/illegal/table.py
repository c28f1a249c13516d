"""The tables of this folder: kernels that break one documented rule each, and what that says.

A case states the rule with its public source, and its error with what is left out replaced by "…":
the instruction or function, the limit, the value found and the way out, in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from emuron.errors import EmuronError, HardwareLimitError

Kernel: TypeAlias = Callable[[], Any]

_GAP = " … "


@dataclass(frozen=True, slots=True)
class Illegal:
    """A kernel that must be refused, on one chip and a number of cores.

    `says` holds the parts of the message. Only where it `runs` does the kernel show that it is
    illegal: it may be recorded without data. The message of one that `is_placed` begins with the
    kernel's line.
    """

    kernel: Kernel
    rule: str
    says: tuple[str, ...]
    source: str
    error: type[EmuronError]
    target: str
    cores: int
    runs: bool
    is_placed: bool
    version: str | None

    @property
    def name(self) -> str:
        """The name of the case: its table and the kernel's name."""
        table = self.kernel.__module__.rpartition(".")[2]
        return f"{table}: {self.kernel.__name__.replace('_', ' ')}"


class Table:
    """Cases that are refused; `source` is the public document of all without their own."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.cases: list[Illegal] = []

    def refuses(
        self,
        rule: str,
        says: str,
        error: type[EmuronError] = HardwareLimitError,
        *,
        source: str = "",
        target: str = "trn2",
        cores: int = 1,
        runs: bool = False,
        is_placed: bool = True,
        version: str | None = None,
    ) -> Callable[[Kernel], Kernel]:
        """Add the decorated kernel with the rule that it breaks and the message that says so."""

        def add(kernel: Kernel) -> Kernel:
            parts = tuple(says.split(_GAP))
            source_ = source or self.source
            options = (target, cores, runs, is_placed, version)
            self.cases.append(Illegal(kernel, rule, parts, source_, error, *options))
            return kernel

        return add
