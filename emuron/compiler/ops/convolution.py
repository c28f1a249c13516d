"""Convolutions of any number of dimensions, as products over chunks of channels and positions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import conv
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.conv_weights import ConvPacking
from emuron.compiler.kernels.linear import Epilogue
from emuron.compiler.kernels.windows import (
    PARTITIONS,
    Position,
    Window,
    contraction_chunks,
    windows_of,
)
from emuron.compiler.ops.arguments import require, require_float, require_shape
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, float32

Pairs = tuple[tuple[int, int], ...]
"""(low, high) for each spatial dimension."""


@op("conv")
@dataclass(frozen=True, slots=True)
class Conv(Op):
    """y[n, o, p] = Σ over channels c of o's group and positions q of x[n, c, p, q] · w[o, c, q].

    x is [N, C, *spatial], weight [O, C / groups, *kernel], the optional bias [O]. Position q of
    output p meets element (p·stride + q·dilation − low) / lhs_dilation of x where that is a whole
    number within x, else zero; negative padding crops. With `transposed` the weight is
    [C, O / groups, *kernel] and its positions run backwards, as frameworks keep the weights of a
    transposed convolution (whose stride is then `lhs_dilation`, and `stride` is 1).

    x and weight are rounded to the auto-cast dtype. A chunk is one sum of fused multiply-adds over
    its elements, in order; `kernels.windows.contraction_chunks` lists the chunks. They are added in
    float32, then the float32 bias; one rounding, to x's dtype. A product with padding is 0,
    whatever the weight.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    lhs_dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    contracts: ClassVar[tuple[int, ...]] = (0, 1)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return [N, O, *outputs] in x's dtype."""
        require(
            len(types) in (2, 3), f"takes x, weight and maybe bias, found {len(types)} operands"
        )
        x, weight = types[:2]
        require_float(x, "x")
        require_float(weight, "weight")
        spatial = x.rank - 2
        require(
            spatial >= 1 and weight.rank == x.rank,
            f"x ({x}) must be [N, C, *spatial] and weight ({weight}) of the same rank",
        )
        self._check_attributes(spatial)
        outputs = self._check_channels(x, weight)
        if len(types) == 3:
            require_shape(types[2], (outputs,), "bias")
        windows = self.windows(x.shape, weight.shape)
        for dim, window in enumerate(windows):
            require(
                window.outputs > 0,
                f"the kernel of {window.length} with dilation {window.dilation} is larger than "
                f"spatial dimension {dim} of x ({x}) with its padding",
            )
        return (x.with_shape(x.shape[0], outputs, *(w.outputs for w in windows)),)

    def _check_attributes(self, spatial: int) -> None:
        for name in ("stride", "padding", "dilation", "lhs_dilation"):
            values = getattr(self, name)
            require(
                len(values) == spatial,
                f"{name} must have {spatial} entries, one for each spatial dimension, "
                f"found {list(values)}",
            )
            require(
                name == "padding" or min(values) >= 1, f"{name} must be 1 or more: {list(values)}"
            )

    def _check_channels(self, x: TensorType, weight: TensorType) -> int:
        """Check channels against groups and return the number of output channels."""
        groups = self.groups
        require(groups >= 1, f"groups must be 1 or more, found {groups}")
        first, second = weight.shape[:2]
        if self.transposed:
            inputs, outputs, divided = first, second * groups, x.shape[1]
        else:
            inputs, outputs, divided = second * groups, first, first
        require(
            inputs == x.shape[1] and divided % groups == 0,
            f"weight ({weight}) does not fit x ({x}) in {groups} groups: it must be "
            + ("[C, O / groups, *kernel]" if self.transposed else "[O, C / groups, *kernel]"),
        )
        return outputs

    def windows(self, x: tuple[int, ...], weight: tuple[int, ...]) -> tuple[Window, ...]:
        """Return the window of each spatial dimension for the shapes of x and weight."""
        return windows_of(
            x[2:], weight[2:], self.stride, self.padding, self.dilation, self.lhs_dilation
        )

    def packing(
        self, operand: int, types: tuple[TensorType, ...], dtype: DType
    ) -> ConvPacking | None:
        """Return the layout of the weight: one matrix for each pass of the Tensor engine."""
        if operand != 1:
            return None
        x, weight = (t.shape for t in types[:2])
        windows = self.windows(x, weight)
        return ConvPacking(weight, self.groups, self.transposed, windows, dtype.itemsize)

    def weight_order(self, operand: int, rank: int) -> tuple[int, ...] | None:
        """Return position by position, as the chunks read the weight."""
        return (*range(2, rank), 0, 1) if operand == 1 else None

    def lower(
        self,
        k: KernelContext,
        inputs: tuple[Placed, ...],
        outputs: tuple[Placed, ...],
        epilogue: Op | None = None,
        added: Placed | None = None,
    ) -> None:
        """Multiply shifted views of the image by the weights, position by position.

        The sum with `added` and the activation `epilogue` join the write.
        """
        x, weight = inputs[:2]
        bias = inputs[2] if len(inputs) == 3 else None
        if weight.packing is None:
            raise UnsupportedOpError("conv has a kernel only where its weight is a parameter")
        function = getattr(epilogue, "activation", None)
        conv.conv(k, x, weight, weight.packing, outputs[0], Epilogue(bias, added, function))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the sum of the chunks' products, plus the bias."""
        b = ev.backend
        x, weight = arrays[:2]
        windows = self.windows(tuple(x.shape), tuple(weight.shape))
        rows = _grouped_weight(ev, weight, self.groups, self.transposed)
        grouped = b.reshape(x, (x.shape[0], self.groups, rows.shape[2], *x.shape[2:]))
        size = rows.shape[2]
        alike = PARTITIONS % size == 0 or size % PARTITIONS == 0
        step = self.groups if alike else 1
        parts = [
            self._sums(ev, grouped[:, at : at + step], rows[at : at + step], at, windows)
            for at in range(0, self.groups, step)
        ]
        y = parts[0] if len(parts) == 1 else b.concatenate(parts, 1)
        outputs = self.groups * rows.shape[1]
        y = b.reshape(y, (x.shape[0], outputs, *(w.outputs for w in windows)))
        if len(arrays) == 3:
            y = b.add(y, b.reshape(arrays[2], (outputs, *(1 for _ in windows))))
        return (y,)

    def _sums(
        self, ev: EvalContext, x: Array, rows: Array, group: int, windows: tuple[Window, ...]
    ) -> Array:
        """Return [N, groups, outputs of one, outputs] of groups whose chunks are those of one."""
        b = ev.backend
        channels, kernel = rows.shape[2], tuple(rows.shape[3:])
        begin = group * channels
        total: Array | None = None
        for chunk in contraction_chunks(channels * self.groups, self.groups, group, windows):
            taken = rows[:, :, chunk.start - begin : chunk.stop - begin]
            columns = [taken[(..., *p)] for p in self._stored(chunk.positions, kernel)]
            left = columns[0] if len(columns) == 1 else b.concatenate(columns, 2)
            met = x[:, :, chunk.start - begin : chunk.stop - begin]
            patch = _patch(ev, met, chunk.positions, windows)
            if patch.shape[2] == 1:
                part = b.multiply(left, patch)
                total = part if total is None else b.add(total, part)
            elif total is None:
                total = b.matmul(left, patch)
            else:
                b.matmul_add(total, left, patch)
        return total

    def _stored(
        self, positions: tuple[Position, ...], kernel: tuple[int, ...]
    ) -> list[tuple[int, ...]]:
        """Return where the weight keeps the positions."""
        if not self.transposed:
            return list(positions)
        return [tuple(n - 1 - i for n, i in zip(kernel, p, strict=True)) for p in positions]

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return every kind: dimensions, strides, paddings, groups, chunks, transposed."""
        return (*_plain_examples(cls), *_special_examples(cls))


def _grouped_weight(ev: EvalContext, weight: Array, groups: int, transposed: bool) -> Array:
    """Return the weight as [groups, outputs of one, channels of one, *kernel]."""
    b = ev.backend
    first, second, *kernel = weight.shape
    split = b.reshape(weight, (groups, first // groups, second, *kernel))
    if not transposed:
        return split
    return b.transpose(split, (0, 2, 1, *range(3, 3 + len(kernel))))


def _patch(
    ev: EvalContext, x: Array, positions: tuple[Position, ...], windows: tuple[Window, ...]
) -> Array:
    """Return what positions of the windows meet: [N, groups, elements, outputs], 0 for padding."""
    batch, groups, channels = x.shape[:3]
    sizes = tuple(w.outputs for w in windows)
    shape = (batch, groups, len(positions) * channels, prod(sizes))
    if all(w == Window(w.size, 1) for w in windows):
        return ev.backend.reshape(x, shape)
    made = ev.backend.zeros((batch, groups, len(positions), channels, *sizes), float32)
    for number, position in enumerate(positions):
        reaches = [w.reach(i) for w, i in zip(windows, position, strict=True)]
        met = [r for r in reaches if r is not None]
        if len(met) == len(windows):
            at = (slice(None), slice(None), number, slice(None), *(r.outputs for r in met))
            made[at] = x[(..., *(r.inputs for r in met))]
    return ev.backend.reshape(made, shape)


def _types(
    x: tuple[int, ...], weight: tuple[int, ...], bias: int, dtype: str
) -> tuple[TensorType, ...]:
    shapes = (x, weight, (bias,))[: 3 if bias else 2]
    return tuple(TensorType(s, float32).with_dtype(dtype) for s in shapes)


def _plain(cls: type[Conv], stride: int, pads: Pairs, groups: int = 1) -> Conv:
    ones = (1,) * len(pads)
    return cls((stride,) * len(pads), pads, ones, ones, groups)


def _plain_examples(cls: type[Conv]) -> tuple[Example, ...]:
    return (
        Example(_plain(cls, 1, ((1, 1),) * 2), _types((2, 8, 6, 5), (4, 8, 3, 3), 4, "float32")),
        Example(_plain(cls, 2, ((3, 3),) * 2), _types((1, 3, 12, 12), (8, 3, 7, 7), 0, "bfloat16")),
        Example(
            _plain(cls, 1, ((0, 0),) * 2), _types((2, 150, 3, 4), (136, 150, 1, 1), 136, "bfloat16")
        ),
        Example(
            _plain(cls, 2, ((0, 0),) * 2), _types((1, 70, 5, 7), (24, 70, 1, 1), 24, "float32")
        ),
        Example(
            _plain(cls, 1, ((1, 1),) * 2), _types((1, 64, 5, 6), (16, 64, 3, 3), 16, "float32")
        ),
        Example(
            _plain(cls, 2, ((0, 1), (1, 0))),
            _types((1, 160, 8, 6), (130, 160, 3, 3), 130, "bfloat16"),
        ),
        Example(_plain(cls, 3, ((2, 1),)), _types((2, 5, 19), (6, 5, 4), 6, "float32")),
        Example(
            _plain(cls, 1, ((0, 1),) * 3), _types((1, 4, 3, 4, 5), (6, 4, 2, 2, 2), 6, "float32")
        ),
    )


def _special_examples(cls: type[Conv]) -> tuple[Example, ...]:
    one = (1, 1)
    dilated = cls(one, ((2, 2), (-1, 3)), (2, 3), one)
    spread = cls(one, ((1, 2), (2, 1)), one, (2, 3))
    return (
        Example(
            _plain(cls, 1, ((1, 1),) * 2, 16), _types((1, 16, 7, 6), (16, 1, 3, 3), 16, "float32")
        ),
        Example(
            _plain(cls, 2, ((1, 1),) * 2, 6), _types((2, 6, 8, 8), (12, 1, 3, 3), 12, "bfloat16")
        ),
        Example(
            _plain(cls, 1, ((1, 1),) * 2, 4), _types((1, 24, 5, 6), (16, 6, 3, 3), 16, "float32")
        ),
        Example(_plain(cls, 1, ((0, 0),), 2), _types((1, 280, 9), (270, 140, 2), 270, "bfloat16")),
        Example(dilated, _types((1, 6, 9, 10), (5, 6, 3, 2), 5, "float32")),
        Example(spread, _types((1, 6, 4, 3), (5, 6, 4, 3), 5, "float32")),
        Example(
            cls(one, ((1, 1), (1, 1)), one, (2, 2), 1, transposed=True),
            _types((1, 10, 4, 5), (10, 6, 3, 3), 6, "bfloat16"),
        ),
        Example(
            cls((1,), ((3, 3),), (1,), (4,), 2, transposed=True),
            _types((1, 4, 6), (4, 3, 8), 6, "float32"),
        ),
    )
