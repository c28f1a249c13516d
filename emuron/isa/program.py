"""Programs: instructions in order, as a loop tree whose leaves are columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from emuron.errors import UsageError
from emuron.isa.affine import Affine, Index, LoopIndex
from emuron.isa.instruction import Form, FormTable
from emuron.isa.tensor import AccessPattern, Tensor

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore


class Block:
    """A straight run of instructions as columns.

    Row i is form `form[i]` in group `group[i]`; its operands are the pairs
    (`tensor[k]`, `offset[k]`) for k from `first[i]`, one for each of the form's operand fields,
    offsets in elements of the operand's dtype. `slopes` maps k to the loop terms of an offset that
    changes from iteration to iteration.
    """

    __slots__ = ("form", "group", "first", "tensor", "offset", "slopes")

    def __init__(self) -> None:
        self.form = array("i")
        self.group = array("i")
        self.first = array("q")
        self.tensor = array("i")
        self.offset = array("q")
        self.slopes: dict[int, tuple[tuple[LoopIndex, int], ...]] = {}

    def __len__(self) -> int:
        return len(self.form)

    @property
    def columns(self) -> tuple[object, ...]:
        """All that the block holds, for comparison (slopes without the loops they belong to)."""
        slopes = {k: [c for _, c in terms] for k, terms in self.slopes.items()}
        return self.form, self.group, self.first, self.tensor, self.offset, slopes

    def append(self, form: int, group: int, operands: Iterable[tuple[int, Index]]) -> None:
        """Add one instruction; `operands` are (tensor number, offset)."""
        self.form.append(form)
        self.group.append(group)
        self.first.append(len(self.tensor))
        for number, offset in operands:
            self.tensor.append(number)
            self.offset.append(self._base(offset))

    def append_views(
        self, form: int, group: int, views: Sequence[AccessPattern], numbers: Mapping[Tensor, int]
    ) -> None:
        """Add one instruction: the views follow its form's operand fields."""
        self.form.append(form)
        self.group.append(group)
        self.first.append(len(self.tensor))
        if len(views) == 3:  # as most have; written out it takes two thirds of the time
            a, b, c = views
            self.tensor.fromlist([numbers[a.tensor], numbers[b.tensor], numbers[c.tensor]])
            try:
                self.offset.fromlist([a.offset, b.offset, c.offset])  # type: ignore[list-item]
            except TypeError:  # some are no ints: they change in a loop
                for view in views:
                    self.offset.append(self._base(view.offset))
            return
        for view in views:
            self.tensor.append(numbers[view.tensor])
            try:
                self.offset.append(view.offset)  # type: ignore[arg-type]
            except TypeError:
                self.offset.append(self._base(view.offset))

    def _base(self, offset: Index) -> int:
        """Return the part of the next operand's offset outside of all loops; note its slopes."""
        if not isinstance(offset, Affine):
            return int(offset)
        if offset.terms:
            self.slopes[len(self.offset)] = offset.terms
        return offset.base


@dataclass(slots=True, eq=False)
class Loop:
    """A body that runs `index.trip` times."""

    index: LoopIndex
    body: list[Block | Loop] = field(default_factory=list)


class _Numbers(dict[Tensor, int]):
    """The number of each tensor: its place in a list, to which new ones are added."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self._tensors = tensors

    def __missing__(self, tensor: Tensor) -> int:
        number = self[tensor] = len(self._tensors)
        self._tensors.append(tensor)
        return number


class Program:
    """Instructions in order for one core, with the tensors and forms they name.

    Grows while it is recorded; `freeze` ends that. `groups` names what instructions belong to
    (a layer of a model, a source line of a kernel), `files` the paths of the files they name.
    `labels` has the rows of the text that a name was given to, `orders` the rows that a row must
    wait for although its data does not ask for it.
    """

    def __init__(self, name: str, core: NeuronCore) -> None:
        self.name = name
        self.core = core
        self.table = FormTable(core)
        self.tensors: list[Tensor] = []
        self.groups: list[str] = []
        self.body: list[Block | Loop] = []
        self.frozen = False
        self.labels: dict[str, list[int]] = {}
        self.orders: dict[int, set[int]] = {}
        self.files: dict[str, str] = {}
        self.tensor_numbers: Mapping[Tensor, int] = _Numbers(self.tensors)
        self._group_numbers: dict[str, int] = {}

    @property
    def forms(self) -> list[Form]:
        """The distinct forms, by number."""
        return self.table.forms

    def tensor_number(self, tensor: Tensor) -> int:
        """Return the number of a tensor, adding it on first sight."""
        return self.tensor_numbers[tensor]

    def group_number(self, group: str) -> int:
        """Return the number of a group, adding it on first sight."""
        number = self._group_numbers.get(group)
        if number is None:
            number = self._group_numbers[group] = len(self.groups)
            self.groups.append(group)
        return number

    def order(self, consumer: int, producer: int) -> None:
        """Let one row of the text wait for an earlier one; raise UsageError if it is not."""
        if producer >= consumer:
            raise UsageError(
                f"Instruction {consumer} cannot wait for instruction {producer}, which the kernel "
                "issues later: programs keep the order they are written in. Issue it earlier."
            )
        self.orders.setdefault(consumer, set()).add(producer)

    def file_name(self, path: str) -> str:
        """Return what groups call a source file: as much of its path as tells it from others."""
        parts = Path(path).parts
        names = ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
        name = next((n for n in names if self.files.get(n, path) == path), path)
        self.files[name] = path
        return name

    def freeze(self) -> Program:
        """End recording and return the program."""
        self.frozen = True
        return self

    def __len__(self) -> int:
        """Count the instructions executed, loops multiplied out."""
        return _count(self.body)

    def is_like(self, other: Program) -> bool:
        """Return whether another program has the same instructions on tensors alike."""
        return (
            self.table.is_like(other.table)
            and self.orders == other.orders
            and list(map(_made, self.tensors)) == list(map(_made, other.tensors))
            and _alike(self.body, other.body)
        )

    def leaves(self) -> Iterator[tuple[Block, tuple[LoopIndex, ...]]]:
        """Yield each Block with the indices of the loops around it, outermost first."""
        yield from _leaves(self.body, ())

    def view(self, block: Block, row: int) -> list[AccessPattern]:
        """Return the access patterns of one row, one for each of its form's operand fields."""
        form = self.forms[block.form[row]]
        patterns: list[AccessPattern] = []
        for k, (name, _) in enumerate(form.operand_fields, start=block.first[row]):
            offset: Index = block.offset[k]
            if k in block.slopes:
                offset = Affine(block.offset[k], block.slopes[k])
            tensor = self.tensors[block.tensor[k]]
            owner, _, part = name.partition(".")
            like: AccessPattern = getattr(form.example, owner)
            if part and like.indirection is not None:
                index = like.indirection.index
                view = AccessPattern(tensor, index.shape, index.strides, offset, index.dtype)
                patterns[-1].indirection = replace(like.indirection, index=view)
            else:
                view = AccessPattern(tensor, like.shape, like.strides, offset, like.dtype)
            patterns.append(view)
        return patterns

    def to_text(self) -> str:
        """Return the program as text, one instruction a line; stable and diffable."""
        lines = [f"program {self.name} on {self.core.version}"]
        _write(self, self.body, "  ", lines)
        return "\n".join(lines) + "\n"


def _alike(some: list[Block | Loop], others: list[Block | Loop]) -> bool:
    if len(some) != len(others):
        return False
    for a, b in zip(some, others, strict=True):
        if isinstance(a, Loop) or isinstance(b, Loop):
            if not (isinstance(a, Loop) and isinstance(b, Loop)) or a.index.trip != b.index.trip:
                return False
            if not _alike(a.body, b.body):
                return False
        elif a.columns != b.columns:
            return False
    return True


def _made(tensor: Tensor) -> tuple[object, ...]:
    """Return what a tensor was made with, where the user placed it, not an allocator."""
    address = tensor.address if tensor.aliases else None
    return tensor.shape, tensor.dtype, tensor.buffer, tensor.role, address


def _count(body: list[Block | Loop]) -> int:
    return sum(
        len(part) if isinstance(part, Block) else part.index.trip * _count(part.body)
        for part in body
    )


def _leaves(
    body: list[Block | Loop], indices: tuple[LoopIndex, ...]
) -> Iterator[tuple[Block, tuple[LoopIndex, ...]]]:
    for part in body:
        if isinstance(part, Block):
            yield part, indices
        else:
            yield from _leaves(part.body, (*indices, part.index))


def _write(program: Program, body: list[Block | Loop], indent: str, lines: list[str]) -> None:
    for part in body:
        if isinstance(part, Loop):
            lines.append(f"{indent}loop {part.index.name} in {part.index.trip}:")
            _write(program, part.body, indent + "  ", lines)
            continue
        for row in range(len(part)):
            form = program.forms[part.form[row]]
            views = program.view(part, row)
            named = [
                f"{name}={view!r}"
                for (name, _), view in zip(form.operand_fields, views, strict=True)
            ]
            attributes = [
                f"{name}={getattr(form.example, name)!r}" for name in form.example.attributes
            ]
            lines.append(f"{indent}{form.engine}.{form.mnemonic} {', '.join(named + attributes)}")
