"""The arithmetic of attention that its kernels share: exponentials and their sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emuron.compiler.kernels.context import KernelContext, nisa
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32

KEY_BLOCK = 512
"""Keys whose exponentials are summed together; the sums are added in order."""

KEPT_KEYS = 8192
"""Keys whose scores are kept on chip between the row maximum and the exponentials."""

SEGMENT_KEYS = 4096
"""Keys whose scores are computed at once, and twice, where there are more."""


@dataclass(frozen=True, slots=True)
class AttentionRules:
    """What `attention` computes: see the operator of the same name for the arithmetic."""

    scale: float
    causal: bool
    window: int
    softcap: float
    hidden_score: float
    floor: float
    smallest_sum: float
    dtype: DType  # of the operands of both products


def key_blocks(count: int) -> Iterator[slice]:
    """Yield the blocks of keys that are summed together."""
    for start in range(0, count, KEY_BLOCK):
        yield slice(start, min(count, start + KEY_BLOCK))


def most_places(keys: int) -> int:
    """Return how many keys a tile of scores may have."""
    return keys if keys <= KEPT_KEYS else SEGMENT_KEYS


def exponentials(
    k: KernelContext,
    rules: AttentionRules,
    scores: NkiTensor,
    bounded: bool,
    sink: NkiTensor | None = None,
) -> tuple[NkiTensor, NkiTensor]:
    """Return exp(scores − largest), rounded, and their sum before rounding, the sink's too.

    `bounded`: a row may see no key at all.
    """
    shift = lowered(k, rules, scores, bounded, sink)
    total = k.sbuf((scores.shape[0], 1), float32)
    weights = weights_of(k, rules, scores, shift, total)
    return weights, with_sink(k, total, sink, shift)


def lowered(
    k: KernelContext,
    rules: AttentionRules,
    scores: NkiTensor,
    bounded: bool,
    sink: NkiTensor | None,
) -> NkiTensor:
    """Return [rows, 1]: minus the largest of each row, of the sink too."""
    rows = scores.shape[0]
    shift = k.sbuf((rows, 1), float32)
    nisa.tensor_reduce(shift, "maximum", scores, 1, negate=True)
    if sink is not None:
        lowest, shift = shift, k.sbuf((rows, 1), float32)
        nisa.scalar_tensor_tensor(shift, sink, "multiply", -1.0, "minimum", lowest)
    if bounded:
        lowest, shift = shift, k.sbuf((rows, 1), float32)
        nisa.tensor_scalar(shift, lowest, "minimum", -rules.floor)
    return shift


def weights_of(
    k: KernelContext,
    rules: AttentionRules,
    scores: NkiTensor,
    shift: NkiTensor,
    total: NkiTensor | None,
    *,
    begun: bool = False,
) -> NkiTensor:
    """Return exp(scores + shift), rounded; `total` receives their sum before rounding.

    With `begun` the sum goes on from the exponentials before.
    """
    weights = k.sbuf(scores.shape, rules.dtype, "weights")
    blocks = list(key_blocks(scores.shape[1]))
    for block in blocks:
        nisa.activation(
            weights[:, block],
            "exp",
            scores[:, block],
            bias=shift,
            scale=1.0,
            reduce_op="add",
            reduce_res=total if block is blocks[-1] else None,
            reduce_cmd="reduce" if begun or block.start else "reset_reduce",
        )
    return weights


def with_sink(
    k: KernelContext, total: NkiTensor, sink: NkiTensor | None, shift: NkiTensor
) -> NkiTensor:
    """Return the sum of exponentials with that of the sink."""
    if sink is None:
        return total
    added, made = (k.sbuf(total.shape, float32) for _ in range(2))
    nisa.activation(added, "exp", sink, bias=shift, scale=1.0)
    nisa.tensor_tensor(made, total, added, "add")
    return made


def shares(k: KernelContext, rules: AttentionRules, total: NkiTensor, bounded: bool) -> NkiTensor:
    """Return one over the sums of the rows."""
    share = k.sbuf(total.shape, float32)
    if bounded:
        lowest, total = total, k.sbuf(total.shape, float32)
        nisa.tensor_scalar(total, lowest, "maximum", rules.smallest_sum)
    nisa.reciprocal(share, total)
    return share
