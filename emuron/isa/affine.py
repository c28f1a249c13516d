"""Loop indices and the affine expressions that addresses in a loop body are made of."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class LoopIndex:
    """The index of one loop of a Program; runs over 0 … trip − 1 and compares by identity."""

    name: str
    trip: int


class Affine:
    """An integer `base + Σ coefficient · index` over the indices of the enclosing loops."""

    __slots__ = ("base", "terms")

    def __init__(self, base: int, terms: tuple[tuple[LoopIndex, int], ...] = ()) -> None:
        self.base = base
        self.terms = terms

    @classmethod
    def of(cls, index: LoopIndex) -> Affine:
        """Return the expression that equals the given loop index."""
        return cls(0, ((index, 1),))

    def __add__(self, other: Index) -> Affine:
        if isinstance(other, Affine):
            merged = dict(self.terms)
            for index, coefficient in other.terms:
                merged[index] = merged.get(index, 0) + coefficient
            return Affine(self.base + other.base, tuple((i, c) for i, c in merged.items() if c))
        return Affine(self.base + other, self.terms)

    __radd__ = __add__

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Index) -> Affine:
        return self + (-other)

    def __rsub__(self, other: int) -> Affine:
        return (-self) + other

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine(0)
        return Affine(self.base * factor, tuple((i, c * factor) for i, c in self.terms))

    __rmul__ = __mul__

    def at(self, values: dict[LoopIndex, int]) -> int:
        """Return the value for the given loop counters."""
        return self.base + sum(c * values[i] for i, c in self.terms)

    def __repr__(self) -> str:
        parts = [f"{c}*{i.name}" for i, c in self.terms]
        return " + ".join([*parts, str(self.base)]) if self.base or not parts else " + ".join(parts)


Index = int | Affine


def static(value: Index, what: str) -> int:
    """Return an index that must not depend on a loop as an int; `what` names it in errors."""
    if isinstance(value, Affine):
        if value.terms:
            raise UsageError(
                f"{what} is {value!r}, which changes from one loop iteration to the next; "
                "it must be the same in every iteration."
            )
        return value.base
    return value


def base_of(value: Index) -> int:
    """Return the part of an index that does not depend on any loop."""
    return value.base if isinstance(value, Affine) else value


def last_of(value: Index) -> int:
    """Return the largest value that an index takes over all iterations of its loops."""
    if isinstance(value, Affine):
        return value.base + sum(max(0, c * (i.trip - 1)) for i, c in value.terms)
    return value
