"""The instruction base class, its registry, and forms: instructions without their addresses.

A form is an instruction class with its attributes and the *layouts* of its operands. Limits and
cost depend on nothing else, so both are worked out once per form, however often it is issued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from emuron.errors import HardwareLimitError, UnknownNameError, UsageError
from emuron.isa.gathered import check_gathered
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

# Kinds of operand fields. The annotation's *name* is what @instruction reads.
Out = AccessPattern  # written
In = AccessPattern  # read
InOut = AccessPattern  # read, then written
OptOut = AccessPattern | None
OptIn = AccessPattern | None
Scalar = AccessPattern | float | None  # one number per partition: a [P, 1] tile or an immediate

OPERAND_KINDS = ("Out", "In", "InOut", "OptOut", "OptIn", "Scalar")
READ_KINDS = frozenset({"In", "InOut", "OptIn", "Scalar"})
WRITE_KINDS = frozenset({"Out", "InOut", "OptOut"})


@dataclass(frozen=True, slots=True)
class DmaCost:
    """What a DMA transfer moves: total bytes, and the descriptors (contiguous runs) it needs.

    `element_bytes` is the length of one contiguous run on the narrower side; `rate` scales the
    bandwidth of a plain copy (a transpose or an inline computation runs slower); `hbm_bytes` is
    the traffic at the HBM stack (reads plus writes), `hbm_jumps` how often its addresses
    there are not the next ones. `partitions` are those of the side on chip, if there is one.
    """

    bytes: int
    descriptors: int
    element_bytes: int
    hbm_bytes: int
    hbm_jumps: int = 0
    partitions: int | None = None
    rate: float = 1.0
    trigger: str = "static"  # static | hwdge | swdge


@dataclass(frozen=True, slots=True)
class CollectiveCost:
    """What a collective moves: bytes of a rank's larger side, among so many ranks.

    A coalesced one starts together with the one before it.
    """

    kind: str
    bytes: int
    ranks: int
    coalesced: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """How long an instruction keeps its engine busy, in cycles of that engine.

    `setup_cycles` is work that the engine does while its previous instruction still runs (a
    LoadStationary); `extra_latency_cycles` delays the result, not the engine; `table` names the
    activation table that the Scalar engine must hold; `flops` counts useful operations.
    """

    cycles: float = 0.0
    setup_cycles: float = 0.0
    extra_latency_cycles: float = 0.0
    table: str | None = None
    flops: int = 0
    dma: DmaCost | None = None
    collective: CollectiveCost | None = None


class Band(NamedTuple):
    """The partitions of an operand that are touched: `blocks` times the first `rows` of `step`.

    Where the blocks are `independent`, one that nothing has written is read as zeros.
    """

    blocks: int
    rows: int
    step: int
    independent: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """One hardware instruction: what it computes, what it forbids, how long it takes.

    Subclasses declare operands with the kinds above and attributes with defaults, and give
    `check`, `compute` and `cost`. `compute` sees arrays of the back end, fp32 [P, N] (free
    dimensions flattened in row-major order), or the stored bits where `raw` is true, in the order
    of the readable fields (an absent operand is None, an immediate a float), and returns one array
    for each written field (a tuple if there are several).
    """

    mnemonic: ClassVar[str] = ""
    engines: ClassVar[tuple[str, ...]] = ()
    operands: ClassVar[tuple[tuple[str, str], ...]] = ()
    attributes: ClassVar[tuple[str, ...]] = ()
    exposed: ClassVar[bool] = True
    since: ClassVar[int] = 1
    source: ClassVar[str] = ""

    @property
    def engine_name(self) -> str:
        """The engine that runs this instruction."""
        return self.engines[0]

    @property
    def raw(self) -> bool:
        """Whether operands are handed over as stored bits, without widening or rounding."""
        return False

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part; None for most instructions.

        `compute` then gets their content, fp32 [P, 1] or None if undefined, as its last argument
        and returns the new content as its last value.
        """
        return None

    @property
    def generator(self) -> str | None:
        """The engine whose random number generator takes part; None for most instructions.

        `compute` then gets its state, uint32 [128, words] (all lanes), as its last argument and
        returns the new state as its last value.
        """
        return None

    @property
    def stored(self) -> tuple[str, ...]:
        """Operands that are handed over as stored bits although `raw` is false."""
        return ()

    def band(self, name: str) -> Band | None:
        """Return which partitions of an operand are touched, None for all of them.

        `compute` sees the touched ones only, one after another.
        """
        return None

    @property
    def unread(self) -> tuple[str, ...]:
        """InOut operands that these attributes leave unread; `compute` gets None for them."""
        return ()

    @property
    def untouched(self) -> tuple[str, ...]:
        """Operands whose accesses the instruction only orders; `compute` does not see them."""
        return ()

    def check(self, core: NeuronCore) -> None:
        """Raise HardwareLimitError if the hardware refuses the operands."""

    def compute(self, ops: Any, *inputs: Any) -> Any:
        """Return the value of each written operand."""
        raise NotImplementedError(self.mnemonic)

    def cost(self, core: NeuronCore) -> Cost:
        """Return the busy time, from the chip's figures."""
        raise NotImplementedError(self.mnemonic)

    def refuse(self, problem: str, way_out: str) -> HardwareLimitError:
        """Return the error for an illegal operand: the instruction, the problem, the way out."""
        return HardwareLimitError(f"{self.mnemonic}: {problem}. {way_out}")


REGISTRY: dict[str, type[Instruction]] = {}
_I = TypeVar("_I", bound=type[Instruction])


def instruction(
    *,
    engine: str | tuple[str, ...],
    nki: str,
    exposed: bool = True,
    since: int = 1,
    source: str = "",
) -> Callable[[_I], _I]:
    """Register an instruction class under its NKI name, with the engines that can run it.

    `exposed` says whether `nki.isa` has a function that is made from the class; `since` is the
    first generation of NeuronCore that has it; `source` says where meaning, limits and cost are
    stated, in the short names of `hardware/data/citations.toml`.
    """

    def register(cls: _I) -> _I:
        cls = dataclass(frozen=True, slots=True, eq=False)(cls)  # type: ignore[assignment]
        cls.mnemonic = nki
        cls.exposed = exposed
        cls.since = since
        cls.source = source
        cls.engines = (engine,) if isinstance(engine, str) else engine
        kinds = [(f.name, str(f.type)) for f in fields(cls)]
        cls.operands = tuple((name, kind) for name, kind in kinds if kind in OPERAND_KINDS)
        cls.attributes = tuple(name for name, kind in kinds if kind not in OPERAND_KINDS)
        REGISTRY[nki] = cls
        return cls

    return register


def instruction_class(nki: str) -> type[Instruction]:
    """Return the instruction class of an NKI name; raise UnknownNameError."""
    if nki not in REGISTRY:
        raise UnknownNameError("instruction", nki, sorted(REGISTRY))
    return REGISTRY[nki]


def attribute_defaults(cls: type[Instruction]) -> dict[str, Any]:
    """Return the default of each attribute that has one."""
    return {f.name: f.default for f in fields(cls) if f.default is not MISSING}


@dataclass(slots=True, eq=False)
class Form:
    """An instruction class with attributes and operand layouts: checked and costed once.

    `operand_fields` lists the operands that are access patterns, in declaration order, each with
    its kind; an indirect operand `x` is followed by its index as ("x.index", "In"). A program
    stores one (tensor, offset) pair for each. `example` is the instruction as first issued.
    """

    id: int
    example: Instruction
    core: NeuronCore
    engine: str
    cost: Cost
    operand_fields: tuple[tuple[str, str], ...]
    plan: Any = field(default=None)  # the functional simulator's prepared execution
    only_views: bool = field(init=False)

    def __post_init__(self) -> None:
        """Note whether the operands are exactly the fields: no immediates, none indirect."""
        self.only_views = self.operand_fields == self.example.operands

    @property
    def mnemonic(self) -> str:
        """The instruction's NKI name."""
        return self.example.mnemonic


class FormTable:
    """The distinct forms of a program, found by class, attributes and layouts.

    `admit`, if given, sees each new instruction and the defaults of its attributes, and may refuse
    it.
    """

    def __init__(self, core: NeuronCore) -> None:
        self.core = core
        self.forms: list[Form] = []
        self.admit: Callable[[Instruction, dict[str, Any]], None] | None = None
        self.known: dict[tuple[object, ...], Form] = {}
        """By class, attributes and, for each operand, its layout or the value that it is."""

    def form(
        self,
        cls: type[Instruction],
        operands: tuple[AccessPattern | float | None, ...],
        attributes: tuple[object, ...] = (),
    ) -> Form:
        """Return the form of an instruction, checking it on first sight.

        `operands` follow `cls.operands`; `attributes` follow `cls.attributes` and must be hashable
        (missing ones at the end take their defaults).
        """
        parts = [o.layout if isinstance(o, AccessPattern) else o for o in operands]
        key = (cls, attributes, *parts)
        try:
            found = self.known.get(key)
        except TypeError:
            raise _unusable(cls, operands, attributes) from None
        if found is None:
            found = self._add(cls, operands, attributes)
            self.known[key] = found
        return found

    def is_like(self, other: FormTable) -> bool:
        """Return whether another table has the same forms in the same order."""
        return self.core == other.core and list(self.known) == list(other.known)

    def _add(
        self,
        cls: type[Instruction],
        operands: tuple[AccessPattern | float | None, ...],
        attributes: tuple[object, ...],
    ) -> Form:
        named: dict[str, Any] = {
            name: value.plain() if isinstance(value, AccessPattern) else value
            for (name, _), value in zip(cls.operands, operands, strict=True)
        }
        if not all(_fits(kind, named[name]) for name, kind in cls.operands):
            raise _unusable(cls, operands, attributes)
        named.update(zip(cls.attributes, attributes, strict=False))
        example = cls(**named)
        if self.admit is not None:
            self.admit(example, attribute_defaults(cls))
        if (self.core.nc_version or 1) < cls.since:
            raise example.refuse(
                f"it exists from NeuronCore-v{cls.since} on, this is "
                f"NeuronCore-{self.core.version}",
                "Choose a later chip or write it with other instructions.",
            )
        example.check(self.core)
        _check_packed(example)
        check_gathered(example, self.core)
        present = tuple(_present(cls, operands))
        form = Form(
            len(self.forms),
            example,
            self.core,
            example.engine_name,
            _cost(example, self.core),
            present,
        )
        self.forms.append(form)
        return form


def _check_packed(example: Instruction) -> None:
    """Refuse packed operands where single values are wanted."""
    for name, _ in example.operands:
        operand = getattr(example, name)
        packed = isinstance(operand, AccessPattern) and operand.dtype.kind == "packed"
        if packed and not example.raw and name not in example.stored:
            raise example.refuse(
                f"{name} is {operand.dtype}, whose elements are {operand.dtype.lanes} values each",
                "Packed values are copied, quantised and multiplied by nc_matmul_mx only.",
            )


def _cost(example: Instruction, core: NeuronCore) -> Cost:
    """Return an instruction's cost; an address from memory takes engines a minimum (ISA26)."""
    cost = example.cost(core)
    operands = (getattr(example, name) for name, _ in example.operands)
    rules = [o.indirection for o in operands if isinstance(o, AccessPattern)]
    dynamic = any(rule is not None and rule.kind == "scalar" for rule in rules)
    if not dynamic or cost.dma is not None:
        return cost
    return replace(cost, cycles=max(cost.cycles, core.timing.dynamic_min_cycles))


def _fits(kind: str, operand: object) -> bool:
    """Return whether a value can stand for an operand of that kind."""
    if isinstance(operand, AccessPattern):
        return True
    if operand is None:
        return kind not in ("In", "Out", "InOut")
    return kind == "Scalar" and isinstance(operand, float | int)


def _unusable(
    cls: type[Instruction], operands: tuple[object, ...], attributes: tuple[object, ...]
) -> UsageError:
    """Return the error for a value that cannot be an operand or attribute."""
    for (name, kind), operand in zip(cls.operands, operands, strict=False):
        if not _fits(kind, operand):
            wanted = "a tensor" + (" or a number" if kind == "Scalar" else "")
            found = "None" if operand is None else f"{type(operand).__name__} {operand!r:.80}"
            return UsageError(
                f"{cls.mnemonic}: {name} must be {wanted} (a view such as tile[0:128, :]); "
                f"it is {found}."
            )
    return UsageError(
        f"{cls.mnemonic}: an attribute among {', '.join(cls.attributes)} is of a wrong type: "
        f"{attributes!r}. Numbers, strings, None and tuples of them are possible."
    )


def _present(
    cls: type[Instruction], operands: tuple[AccessPattern | float | None, ...]
) -> Iterator[tuple[str, str]]:
    for (name, kind), value in zip(cls.operands, operands, strict=True):
        if isinstance(value, AccessPattern):
            yield name, kind
            if value.indirection is not None:
                yield f"{name}.index", "In"


def flat_operands(operands: Iterable[AccessPattern | float | None]) -> Iterator[AccessPattern]:
    """Yield the access patterns among operands in the order of a form's `operand_fields`."""
    for value in operands:
        if isinstance(value, AccessPattern):
            yield value
            if value.indirection is not None:
                yield value.indirection.index
