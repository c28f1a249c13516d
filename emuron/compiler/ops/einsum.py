"""Sums of products named by letters, built from dot_general, reduce and permute."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import TYPE_CHECKING

from emuron.compiler.graph import Value
from emuron.compiler.ops.arguments import require

if TYPE_CHECKING:
    from emuron.compiler.ops.builder import GraphBuilder


def einsum(b: GraphBuilder, equation: str, operands: Sequence[Value]) -> Value:
    """Return the sum of products of `equation`; operands are joined from left to right.

    Takes an ellipsis; raises UsageError for a letter twice in one operand.
    """
    terms, result = _parsed(equation, [v.type.rank for v in operands])
    letters, found = terms[0], operands[0]
    for position, (term, value) in enumerate(zip(terms, operands, strict=True)):
        require(len(set(term)) == len(term), f"einsum {equation!r}: a letter twice in one operand")
        require(
            len(term) == value.type.rank, f"einsum {equation!r}: {term} does not name {value.type}"
        )
        if position:
            later = set(result).union(*terms[position + 1 :])
            letters, found = _joined(b, (letters, found), (term, value), later)
    letters, found = _summed(b, letters, found, set(result))
    require(set(letters) == set(result), f"einsum {equation!r}: the result names unknown letters")
    return b.permute(found, *(letters.index(letter) for letter in result))


def _parsed(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result, an ellipsis replaced by letters."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    require(
        len(terms) == len(ranks), f"einsum {equation!r} names {len(terms)} of {len(ranks)} operands"
    )
    free = [letter for letter in ascii_letters if letter not in equation]
    hidden = [
        rank - len(t.replace("...", "")) if "..." in t else 0
        for t, rank in zip(terms, ranks, strict=True)
    ]
    most = max(hidden, default=0)
    terms = [
        t.replace("...", "".join(free[most - count : most]))
        for t, count in zip(terms, hidden, strict=True)
    ]
    if not arrow:
        joined = "".join(terms)
        once = sorted(c for c in set(joined) if joined.count(c) == 1 and c not in free[:most])
        result = "".join(free[:most]) + "".join(once)
    return terms, result.replace("...", "".join(free[:most]))


def _summed(b: GraphBuilder, letters: str, x: Value, kept: set[str]) -> tuple[str, Value]:
    """Sum over the letters that are not kept."""
    lone = tuple(i for i, letter in enumerate(letters) if letter not in kept)
    if not lone:
        return letters, x
    return "".join(c for c in letters if c in kept), b.reduce("sum", x, lone)


def _joined(
    b: GraphBuilder, left: tuple[str, Value], right: tuple[str, Value], later: set[str]
) -> tuple[str, Value]:
    """Return the product of two operands, summed over what neither the result nor others name."""
    names, x = _summed(b, *left, later | set(right[0]))
    others, y = _summed(b, *right, later | set(names))
    shared = [c for c in names if c in others]
    pairs = [(c, names.index(c), others.index(c)) for c in shared]
    for _, i, j in pairs:
        x, y = _stretched(b, x, i, y.shape[j]), _stretched(b, y, j, x.shape[i])
    batch = [p for p in pairs if p[0] in later]
    summed = [p for p in pairs if p[0] not in later]
    z = b.dot_general(
        x,
        y,
        (tuple(p[1] for p in summed), tuple(p[2] for p in summed)),
        (tuple(p[1] for p in batch), tuple(p[2] for p in batch)),
    )
    rest = [c for c in (*names, *others) if c not in shared]
    return "".join([p[0] for p in batch] + rest), z


def _stretched(b: GraphBuilder, x: Value, dim: int, size: int) -> Value:
    """Return x with a dimension of size 1 repeated."""
    if x.shape[dim] == size or x.shape[dim] != 1:
        return x
    shape = list(x.shape)
    shape[dim] = size
    return b.broadcast(x, shape)
