"""Builder methods of layers over images and sequences: convolution, pooling, norms, recurrence."""

from __future__ import annotations

from collections.abc import Sequence

from emuron.compiler.graph import Value
from emuron.compiler.ops.channel_norm import BatchNorm, GroupNorm
from emuron.compiler.ops.convolution import Conv
from emuron.compiler.ops.grouped import GroupedMatMul
from emuron.compiler.ops.movement_builder import MovementBuilder
from emuron.compiler.ops.pooling import ReduceWindow
from emuron.compiler.ops.recurrent import Gru, Lstm
from emuron.compiler.ops.resize import Resize
from emuron.errors import UsageError

Sizes = Sequence[int] | int
Padding = Sequence[tuple[int, int]] | int


def _each(value: Sizes, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value)


def _pairs(value: Padding, count: int) -> tuple[tuple[int, int], ...]:
    if isinstance(value, int):
        return ((value, value),) * count
    return tuple((low, high) for low, high in value)


class NetworkBuilder(MovementBuilder):
    """An ElementwiseBuilder with convolutional and recurrent layers; one number serves all dims."""

    def conv(
        self,
        x: Value,
        weight: Value,
        bias: Value | None = None,
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        lhs_dilation: Sizes = 1,
        groups: int = 1,
    ) -> Value:
        """Convolution of [N, C, *spatial] with [O, C / groups, *kernel]; padding is (low, high)."""
        n = x.type.rank - 2
        op = Conv(
            _each(stride, n),
            _pairs(padding, n),
            _each(dilation, n),
            _each(lhs_dilation, n),
            groups,
        )
        return self.one(op, x, weight, *([] if bias is None else [bias]))

    def conv_transpose(
        self,
        x: Value,
        weight: Value,
        bias: Value | None = None,
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        output_padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> Value:
        """Transposed convolution with [C, O / groups, *kernel], as PyTorch and ONNX define it.

        `padding` crops (low, high) of the full result, `output_padding` adds at the end of it.
        """
        n = x.type.rank - 2
        kernel = weight.shape[2:]
        rates = _each(dilation, n)
        reach = [d * (k - 1) for d, k in zip(rates, kernel, strict=True)]
        extra, pads = _each(output_padding, n), _pairs(padding, n)
        pairs = tuple(
            (r - low, r - high + e) for r, (low, high), e in zip(reach, pads, extra, strict=True)
        )
        op = Conv((1,) * n, pairs, rates, _each(stride, n), groups, transposed=True)
        return self.one(op, x, weight, *([] if bias is None else [bias]))

    def reduce_window(
        self,
        kind: str,
        x: Value,
        window: Sequence[int],
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        ceil: bool = False,
        count_include_pad: bool = False,
    ) -> Value:
        """Max, min, sum or avg over windows of the last dimensions; padding is (low, high)."""
        n = len(window)
        return self.one(
            ReduceWindow(
                kind,
                tuple(window),
                _each(stride, n),
                _pairs(padding, n),
                _each(dilation, n),
                ceil,
                count_include_pad,
            ),
            x,
        )

    def resize(
        self,
        x: Value,
        sizes: Sequence[int],
        mode: str,
        *,
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        scales: Sequence[float] = (),
        cubic: float = -0.75,
        antialias: bool = False,
        exclude_outside: bool = False,
    ) -> Value:
        """X with `sizes` as last dimensions; mode is nearest, linear or cubic (see `Resize`)."""
        op = Resize(
            tuple(sizes),
            mode,
            coordinates,
            rounding,
            tuple(scales),
            cubic,
            antialias,
            exclude_outside,
        )
        return self.one(op, x)

    def group_norm(
        self,
        x: Value,
        weight: Value | None = None,
        bias: Value | None = None,
        *,
        groups: int,
        epsilon: float,
    ) -> Value:
        """Normalisation of [N, C, *spatial] over groups of channels (instance: groups = C)."""
        if weight is None and bias is not None:
            raise UsageError("group_norm takes a bias only together with a weight")
        given = (o for o in (weight, bias) if o is not None)
        return self.one(GroupNorm(groups, epsilon), x, *given)

    def batch_norm(
        self, x: Value, weight: Value, bias: Value, mean: Value, variance: Value, *, epsilon: float
    ) -> Value:
        """Normalisation of [N, C, *spatial] by known moments of each channel."""
        return self.one(BatchNorm(epsilon), x, weight, bias, mean, variance)

    def lstm(
        self,
        x: Value,
        weights: Sequence[Value],
        state: tuple[Value, Value] | None = None,
        *,
        gates: str = "ifgo",
        reverse: bool = False,
    ) -> tuple[Value, Value, Value]:
        """One direction of a layer: (all h [S, B, H], last h, last c) of x [S, B, I].

        `weights` are weight_ih, weight_hh and maybe bias_ih, bias_hh; see `Lstm` for the gates.
        """
        op = Lstm(gates, len(weights) == 4, state is not None, reverse)
        y, h, c = self.append(op, x, *weights, *(state or ()))
        return y, h, c

    def gru(
        self,
        x: Value,
        weights: Sequence[Value],
        state: Value | None = None,
        *,
        gates: str = "rzn",
        reverse: bool = False,
        reset_after: bool = True,
    ) -> tuple[Value, Value]:
        """One direction of a layer: (all h [S, B, H], last h) of x [S, B, I]; see `Gru`."""
        op = Gru(gates, len(weights) == 4, state is not None, reverse, reset_after)
        y, h = self.append(op, x, *weights, *(() if state is None else (state,)))
        return y, h

    def grouped_matmul(self, x: Value, weight: Value, ends: Value) -> Value:
        """Rows of x [T, K] by weight[e] [K, N] of their group; `ends` [E] are where groups end."""
        return self.one(GroupedMatMul(), x, weight, ends)
