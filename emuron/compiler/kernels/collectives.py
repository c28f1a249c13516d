"""Collectives: values go through HBM, where the ranks exchange them."""

from __future__ import annotations

from math import prod

from emuron.compiler.kernels import elementwise, movement
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.view import LogicalView
from emuron.isa.permutes import CollectivePermute
from emuron.isa.rank_collectives import AllGather, AllReduce, AllToAll, ReduceScatter
from emuron.nki.tensor import NkiTensor


def all_reduce(k: KernelContext, ranks: int, x: Placed, out: Placed) -> None:
    """Write the sum of all ranks' x."""
    if ranks == 1:
        movement.move(k, x, out)
        return
    source, target = movement.dense(k, x), _landing(k, out)
    groups = (tuple(range(ranks)),)
    k.recorder.issue(AllReduce, (_row(source), _row(target)), (groups, "add", None, False))
    _deliver(k, target, out)


def all_gather(k: KernelContext, ranks: int, axis: int, x: Placed, out: Placed) -> None:
    """Write all ranks' x, one after another along `axis`: they come as [ranks, *shape of x]."""
    if ranks == 1:
        movement.move(k, x, out)
        return
    source = movement.dense(k, x)
    made = k.hbm((ranks, *x.shape), x.dtype, "gathered", "temporary")
    groups = (tuple(range(ranks)),)
    pair = _row(source, (1, prod(x.shape))), _row(made, (ranks, prod(x.shape)))
    k.recorder.issue(AllGather, pair, (groups, 0, None, False))
    order = (*range(1, axis + 1), 0, *range(axis + 1, len(x.shape) + 1))
    joined = made.view.permute(order).reshape(out.shape)
    assert joined is not None
    movement.move(k, made.seen_as(joined), out)


def reduce_scatter(k: KernelContext, ranks: int, axis: int, x: Placed, out: Placed) -> None:
    """Write this rank's part, along `axis`, of the sum of all ranks' x."""
    if ranks == 1:
        movement.move(k, x, out)
        return
    size = x.shape[axis] // ranks
    made = k.hbm((ranks, *out.shape), x.dtype, "parts", "temporary")
    for rank in range(ranks):
        view = x.view.slice(axis, rank * size, size)
        assert view is not None
        movement.move(k, x.seen_as(view), _part(made, rank, out.shape))
    target = _landing(k, out)
    groups = (tuple(range(ranks)),)
    pair = _row(made, (ranks, prod(out.shape))), _row(target, (1, prod(out.shape)))
    k.recorder.issue(ReduceScatter, pair, (groups, 0, "add", None, False))
    _deliver(k, target, out)


def all_to_all(k: KernelContext, ranks: int, axis: int, split: int, x: Placed, out: Placed) -> None:
    """Write the parts of x, cut along `split`, that all ranks mean for this one, along `axis`."""
    if ranks == 1:
        movement.move(k, x, out)
        return
    size = x.shape[split] // ranks
    shape = tuple(size if d == split else n for d, n in enumerate(x.shape))
    sent, got = (k.hbm((ranks, *shape), x.dtype, name, "temporary") for name in ("sent", "got"))
    for rank in range(ranks):
        view = x.view.slice(split, rank * size, size)
        assert view is not None
        movement.move(k, x.seen_as(view), _part(sent, rank, shape))
    groups, rows = (tuple(range(ranks)),), (ranks, prod(shape))
    k.recorder.issue(AllToAll, (_row(sent, rows), _row(got, rows)), (groups, 0, None, False))
    movement.concatenate(k, [_part(got, rank, shape) for rank in range(ranks)], axis, out)


def permute(
    k: KernelContext, ranks: int, pairs: tuple[tuple[int, int], ...], x: Placed, out: Placed
) -> None:
    """Write the x of the rank that sends to this one, zeros if none does."""
    if ranks == 1:
        movement.move(k, x, out)
        return
    source, target = movement.dense(k, x), _landing(k, out)
    if len(pairs) < ranks:
        elementwise.fill(k, target, 0.0)
    k.recorder.issue(CollectivePermute, (_row(source), _row(target)), (pairs, None))
    _deliver(k, target, out)


def _landing(k: KernelContext, out: Placed) -> Placed:
    """Return where in HBM a collective writes: the result itself if it lies so, else new memory."""
    if not out.on_chip and out.view.is_dense:
        return out
    return k.hbm(out.shape, out.dtype, "exchanged", "temporary")


def _deliver(k: KernelContext, landed: Placed, out: Placed) -> None:
    if landed is not out:
        movement.move(k, landed, out)


def _part(whole: Placed, rank: int, shape: tuple[int, ...]) -> Placed:
    """Return one rank's part of [ranks, *shape] in HBM."""
    storage = NkiTensor(
        whole.storage.tensor, shape or (1,), None, whole.storage.offset + rank * prod(shape)
    )
    return Placed(storage, LogicalView.dense(shape))


def _row(value: Placed, shape: tuple[int, ...] | None = None) -> NkiTensor:
    """Return the elements of a dense value in HBM as one row, or in `shape`."""
    wanted = (prod(value.shape),) if shape is None else shape
    return NkiTensor(value.storage.tensor, wanted, None, value.storage.offset, value.storage.dtype)
