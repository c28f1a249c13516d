"""Layer and RMS normalisation, softmax: row by row over the last dimension."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from emuron.compiler.kernels import folding
from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.turned import columns_of
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32

_PIECE_COLUMNS = 4096  # 16 KiB of float32 in each partition
_WIDE_COLUMNS = 8192  # beyond them rows, weight and bias leave room for half of that


def layer_norm(
    k: KernelContext,
    x: Placed,
    weight: Placed | None,
    bias: Placed | None,
    out: Placed,
    epsilon: float,
    chunk: int,
) -> None:
    """Write (x − mean)·rsqrt(variance + epsilon)·weight + bias; statistics by chunks of `chunk`."""
    rows, columns = x.view.matrix().shape
    x = k.reachable(x, columns)
    lines = [_line(k, v, rows, columns) for v in (weight, bias)]
    shift = k.filled(epsilon, 1)

    def begin(part: Rows) -> tuple[NkiTensor, ...]:
        tile = k.read(x, part, (0, columns))
        mean, variance = _statistics(k, tile, chunk)
        scale = k.sbuf((part[1], 1), float32)
        nisa.activation(scale, "rsqrt", variance, bias=shift[: part[1]])
        return tile, mean, scale

    def finish(part: Rows, found: tuple[NkiTensor, ...]) -> None:
        tile, mean, scale = found
        for span in _pieces(columns):
            target = k.target(out, part, span)
            steps = _steps(k, target, lines)
            piece = columns_of(tile, *span)
            nisa.tensor_scalar(steps[0], piece, "subtract", mean, False, "multiply", scale)
            _affine(k, steps, lines, part[1], span)
            k.finish(target, out, part, span)

    k.in_two_steps(k.row_tiles(rows, x, out), begin, finish)


def rms_norm(
    k: KernelContext, x: Placed, weight: Placed | None, out: Placed, epsilon: float
) -> None:
    """Write x·rsqrt(Σx²·(1/n) + epsilon)·weight."""
    rows, columns = x.view.matrix().shape
    if folding.folds(rows, columns):
        _folded_rms_norm(k, x, weight, out, epsilon)
        return
    x = k.reachable(x, columns)
    line = _line(k, weight, rows, columns)
    shift = k.filled(epsilon, 1)

    def begin(part: Rows) -> tuple[NkiTensor, ...]:
        tile = k.read(x, part, (0, columns))
        squares = k.sbuf((part[1], columns), float32)
        total, scale = (k.sbuf((part[1], 1), float32) for _ in range(2))
        nisa.tensor_tensor(squares, tile, tile, "multiply")
        nisa.tensor_reduce(total, "add", squares, 1)
        nisa.activation(scale, "rsqrt", total, bias=shift[: part[1]], scale=1.0 / columns)
        return tile, scale

    def finish(part: Rows, found: tuple[NkiTensor, ...]) -> None:
        for span in _pieces(columns):
            target = k.target(out, part, span)
            steps = _steps(k, target, [line])
            nisa.tensor_scalar(steps[0], columns_of(found[0], *span), "multiply", found[1])
            _affine(k, steps, [line], part[1], span)
            k.finish(target, out, part, span)

    k.in_two_steps(k.row_tiles(rows, x, out), begin, finish)


def _folded_rms_norm(
    k: KernelContext, x: Placed, weight: Placed | None, out: Placed, epsilon: float
) -> None:
    """Write few wide rows: each partition sums its 128 squares, then the blocks of a row."""
    rows, columns = folding.matrix_of(x.shape)
    blocks = columns // folding.WIDTH
    x, target = folding.folded(k, x), folding.folded(k, out)
    line = None if weight is None else folding.repeated(k.spill(weight), rows)
    shift = k.filled(epsilon, 1)
    for part in folding.parts(rows, columns):
        count, span = part[1], (0, folding.WIDTH)
        tile = k.read(x, part, span)
        squares = k.sbuf((count, folding.WIDTH), float32)
        partial, scale = (k.sbuf((count, 1), float32) for _ in range(2))
        nisa.tensor_tensor(squares, tile, tile, "multiply")
        nisa.tensor_reduce(partial, "add", squares, 1)
        total = folding.sum_of_rows(k, partial, blocks)
        nisa.activation(scale, "rsqrt", total, bias=shift[:count], scale=1.0 / columns)
        lines = [None if line is None else k.read(line, part, span, "weight")]
        written = k.target(target, part, span)
        steps = _steps(k, written, lines)
        nisa.tensor_scalar(steps[0], tile, "multiply", scale)
        _affine(k, steps, lines, count, span)
        k.finish(written, target, part, span)


def softmax(k: KernelContext, x: Placed, out: Placed) -> None:
    """Write exp(x − max)·(1 / Σ exp(x − max)) of every row."""
    rows, columns = x.view.matrix().shape
    x = k.reachable(x, columns)

    def begin(part: Rows) -> tuple[NkiTensor, ...]:
        tile = k.read(x, part, (0, columns))
        shift, total = (k.sbuf((part[1], 1), float32) for _ in range(2))
        nisa.tensor_reduce(shift, "maximum", tile, 1, negate=True)
        powers = k.sbuf((part[1], columns), float32)
        nisa.activation(
            powers,
            "exp",
            tile,
            bias=shift,
            scale=1.0,
            reduce_op="add",
            reduce_res=total,
            reduce_cmd="reset_reduce",
        )
        return powers, total

    def finish(part: Rows, found: tuple[NkiTensor, ...]) -> None:
        share = k.sbuf((part[1], 1), float32)
        nisa.reciprocal(share, found[1])
        target = k.target(out, part, (0, columns))
        nisa.tensor_scalar(target, found[0], "multiply", share)
        k.finish(target, out, part, (0, columns))

    k.in_two_steps(k.row_tiles(rows, x, out), begin, finish)


def _line(k: KernelContext, value: Placed | None, rows: int, columns: int) -> NkiTensor | None:
    return None if value is None else k.spread(value, min(128, rows), (0, columns))


def _statistics(k: KernelContext, tile: NkiTensor, chunk: int) -> tuple[NkiTensor, NkiTensor]:
    """Return mean and population variance [rows, 1] by bn_stats and bn_aggr."""
    count, columns = tile.shape
    starts = range(0, columns, chunk)
    parts = k.sbuf((count, len(starts), 6), float32, "stats")
    for number, start in enumerate(starts):
        nisa.bn_stats(parts[:, number], tile[:, start : min(columns, start + chunk)])
    both = k.sbuf((count, 2), float32, "moments")
    nisa.bn_aggr(both, parts)
    return both[:, 0:1], both[:, 1:2]


def _pieces(columns: int) -> Iterator[tuple[int, int]]:
    """Yield (start, count) of the columns between whose steps float32 values are held."""
    piece = _PIECE_COLUMNS if columns <= _WIDE_COLUMNS else _PIECE_COLUMNS // 2
    for start in range(0, columns, piece):
        yield start, min(piece, columns - start)


def _steps(
    k: KernelContext, target: NkiTensor, lines: Sequence[NkiTensor | None]
) -> list[NkiTensor]:
    """Return float32 tiles for the values between the steps, the target last."""
    between = [k.sbuf(target.shape, float32) for line in lines if line is not None]
    return [*between, target]


def _affine(
    k: KernelContext,
    steps: list[NkiTensor],
    lines: Sequence[NkiTensor | None],
    count: int,
    span: tuple[int, int],
) -> None:
    given = [
        (line, op) for line, op in zip(lines, ("multiply", "add"), strict=False) if line is not None
    ]
    for number, (line, op) in enumerate(given):
        # The sum goes to GpSimd: the Vector engine has more to do.
        engine = "gpsimd" if op == "add" and k.core.features.gpsimd else "vector"
        part = columns_of(line[:count], *span)
        nisa.tensor_tensor(steps[number + 1], steps[number], part, op, engine=engine)
