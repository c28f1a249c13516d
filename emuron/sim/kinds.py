"""What a site can be: an instruction of some form, or one stage of a meeting of cores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.meetings import CoreId, Meeting, Stage
from emuron.isa.tensor import AccessPattern
from emuron.sim.footprints import Column


class Field(NamedTuple):
    """An operand field of a kind: its pattern, and whether it is read and written."""

    pattern: AccessPattern
    reads: bool
    writes: bool


class Kind(NamedTuple):
    """A form, and where it is that of a meeting one of its stages."""

    form: Form
    stage: Stage | None = None

    @property
    def label(self) -> str:
        """What a trace calls it."""
        untimed = self.stage is not None and not self.stage.timed
        return f"{self.form.mnemonic} {self.stage.name}" if untimed else self.form.mnemonic  # type: ignore[union-attr]

    @property
    def takes_time(self) -> bool:
        """Whether the cost of the instruction is the kind's."""
        return self.stage is None or self.stage.timed

    @property
    def is_transfer(self) -> bool:
        """Whether the kind goes to a DMA ring."""
        return self.form.cost.dma is not None and (self.stage is None or self.stage.queue is None)

    @property
    def queue(self) -> str:
        """The queue of a kind that goes to no ring."""
        named = self.stage.queue if self.stage is not None else None
        return self.form.engine if named is None else named

    def fields(self) -> list[Field]:
        """Return the operand fields, as far as the kind touches them."""
        return [self._field(name, kind) for name, kind in self.form.operand_fields]

    def _field(self, name: str, kind: str) -> Field:
        owner, _, part = name.partition(".")
        pattern: AccessPattern = getattr(self.form.example, owner)
        if part and pattern.indirection is not None:
            pattern = pattern.indirection.index
        if self.stage is None:
            return Field(pattern, kind in READ_KINDS, kind in WRITE_KINDS)
        if part:
            return Field(pattern, self.stage.timed, False)
        return Field(pattern, owner in self.stage.reads, owner in self.stage.touches)


class Kinds:
    """The kinds of a program's sites; those of form i are numbers `first[i]` to `first[i + 1]` - 1.

    `here` is the core that runs the program, of `cores` of its rank.
    """

    def __init__(self, forms: list[Form], here: CoreId, cores: int) -> None:
        of_form = [_kinds(form, here, cores) for form in forms]
        self.all = [kind for kinds in of_form for kind in kinds]
        self.first: Column = np.cumsum([0, *map(len, of_form)])
        fields = [kind.fields() for kind in self.all]
        # The fields of kind i are numbers slots[i] to slots[i + 1] - 1.
        self.slots: Column = np.cumsum([0, *map(len, fields)])
        self.fields = [field for found in fields for field in found]
        self.size = np.array([f.pattern.dtype.itemsize for f in self.fields], np.int64)
        self.reads = np.array([field.reads for field in self.fields], np.bool_)
        self.writes = np.array([field.writes for field in self.fields], np.bool_)


def _kinds(form: Form, here: CoreId, cores: int) -> list[Kind]:
    if isinstance(form.example, Meeting):
        return [Kind(form, stage) for stage in form.example.stages(here, cores)]
    return [Kind(form)]
