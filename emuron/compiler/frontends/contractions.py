"""Products of tensors over any dimensions, as matrix products between permutes and reshapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from emuron.compiler.graph import Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UnsupportedOpError

Axes = Sequence[int]


def dot_general(
    b: GraphBuilder, x: Value, y: Value, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes]
) -> Value:
    """Return Σ x · y over the `contract` dimensions of each.

    The result has the `batch` dimensions, then those left of x, then those left of y, as XLA's
    DotGeneral has.
    """
    left, right = _free(x, contract[0], batch[0]), _free(y, contract[1], batch[1])
    lead = [x.shape[i] for i in batch[0]]
    size = math.prod(x.shape[i] for i in contract[0])
    rows = _arranged(b, x, [*batch[0], *left, *contract[0]])
    columns = _arranged(b, y, [*batch[1], *contract[1], *right])
    outer, inner = [x.shape[i] for i in left], [y.shape[i] for i in right]
    rows = b.reshape(rows, *lead, math.prod(outer), size)
    columns = b.reshape(columns, *lead, size, math.prod(inner))
    return b.reshape(b.matmul(rows, columns), *lead, *outer, *inner)


def _free(x: Value, contract: Axes, batch: Axes) -> list[int]:
    return [i for i in range(x.type.rank) if i not in contract and i not in batch]


def _arranged(b: GraphBuilder, x: Value, order: list[int]) -> Value:
    return x if order == sorted(order) else b.permute(x, *order)


def einsum(b: GraphBuilder, equation: str, operands: Sequence[Value]) -> Value:
    """Return Einstein's sum of one or two operands; raise UnsupportedOpError for other forms."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands) or not 1 <= len(terms) <= 2:
        raise UnsupportedOpError(f"the sum {equation!r} of {len(operands)} operands is not built")
    terms, output = _without_ellipses(terms, operands, output if arrow else _implied(left))
    if any(len(set(t)) < len(t) for t in (*terms, output)):
        raise UnsupportedOpError(f"the sum {equation!r} takes a diagonal, which is not built")
    values = [
        _summed(b, v, t, {*output, *"".join(terms).replace(t, "", 1)})
        for v, t in zip(operands, terms, strict=True)
    ]
    (x, names), *others = values
    if others:
        y, other = others[0]
        shared = [n for n in names if n in other]
        batch = [n for n in shared if n in output]
        contract = [n for n in shared if n not in output]
        x = dot_general(
            b,
            x,
            y,
            ([names.index(n) for n in contract], [other.index(n) for n in contract]),
            ([names.index(n) for n in batch], [other.index(n) for n in batch]),
        )
        names = "".join(
            [*batch, *(n for n in names if n not in shared), *(n for n in other if n not in shared)]
        )
    if sorted(names) != sorted(output):
        raise UnsupportedOpError(f"the output of the sum {equation!r} has names of no operand")
    return _arranged(b, x, [names.index(n) for n in output])


def _implied(left: str) -> str:
    letters = left.replace(",", "").replace("...", "")
    single = sorted(n for n in set(letters) if letters.count(n) == 1)
    return ("..." if "..." in left else "") + "".join(single)


def _without_ellipses(
    terms: Sequence[str], operands: Sequence[Value], output: str
) -> tuple[list[str], str]:
    """Return the terms with names in the place of each `...`."""
    spare = [chr(code) for code in range(0x391, 0x3A9)]
    counts = [v.type.rank - len(t.replace("...", "")) for v, t in zip(operands, terms, strict=True)]
    widest = max((n for n, t in zip(counts, terms, strict=True) if "..." in t), default=0)
    named = []
    for term, count in zip(terms, counts, strict=True):
        if ("..." not in term and count) or not 0 <= count <= len(spare):
            raise UnsupportedOpError(f"the term {term!r} does not fit its operand's dimensions")
        named.append(term.replace("...", "".join(spare[widest - count : widest])))
    return named, output.replace("...", "".join(spare[:widest]))


def _summed(b: GraphBuilder, x: Value, names: str, kept: set[str]) -> tuple[Value, str]:
    """Return x summed over the names that nothing else has, and the names that are left."""
    axes = [i for i, n in enumerate(names) if n not in kept]
    if axes:
        x = b.reduce("sum", x, axes)
    return x, "".join(n for n in names if n in kept)
