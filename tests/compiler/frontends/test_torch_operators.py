"""ATen operators of the PyTorch frontend, family by family, against eager PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph
from emuron.errors import UnsupportedOpError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
F = torch.nn.functional

from emuron.compiler.frontends.torch import to_graph  # noqa: E402
from tests.compiler.frontends.torch_functions import Apply  # noqa: E402

SMALL_ERROR = 4e-6
"""One operator on numbers of magnitude up to 10: about 4 units in the last place."""

SUM_ERROR = 2e-5
"""Sums of up to 200 float32 products in another order, of magnitude up to 10."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def _check(function: Any, *inputs: Any, error: float = SMALL_ERROR) -> Graph:
    module = function if isinstance(function, torch.nn.Module) else Apply(function)
    graph = to_graph(module.eval(), inputs)
    with torch.no_grad():
        expected = module(*inputs)
    named = {v.name: t.numpy() for v, t in zip(graph.inputs, inputs, strict=True)}
    found = Evaluator(graph).run(named)
    leaves = torch.utils._pytree.tree_leaves(expected)
    assert len(found) == len(leaves)
    for ours, theirs in zip(found.values(), leaves, strict=True):
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(
            ours.astype(np.float32), theirs.float().numpy(), atol=error, rtol=error
        )
    return graph


X = torch.linspace(-3, 3, 24).reshape(2, 3, 4)
P = torch.linspace(0.25, 4, 24).reshape(2, 3, 4)
ROW = torch.tensor([0.5, -1.0, 2.0, 4.0])
IDS = torch.tensor([[2, 0, 1], [1, 1, 2]])
N = torch.arange(-11, 13).reshape(2, 3, 4)

ELEMENTS = {
    "functions": lambda x, p, r, i, n: (
        *(x.expm1(), p.log1p(), x.erfc(), (x / 4).tan(), (x / 4).asin(), (x / 4).acos()),
        *(x.atan(), x.sinh(), x.cosh(), x.asinh(), (p + 1).acosh(), (x / 4).atanh()),
        *(x.exp2(), p.log2(), p.log10(), x.frac()),
    ),
    "rounding": lambda x, p, r, i, n: (
        *(x.floor(), x.ceil(), x.round(), x.trunc(), x.sign(), n.sign(), n.floor()),
        *(x.long(), (x * 2).to(torch.int32), x.round(decimals=1)),
    ),
    "questions": lambda x, p, r, i, n: (
        *((p - 1).log().isnan(), (1 / n).isinf(), (1 / n).isfinite(), n.isnan()),
        *((p - 1).log().nan_to_num(0.5), torch.isclose(x, x + 1e-9)),
    ),
    "division": lambda x, p, r, i, n: (
        *(n // 3, n % 3, torch.fmod(n, 3), x // 0.7, x % 0.7, torch.fmod(x, 0.7)),
        *(torch.div(n, 4, rounding_mode="trunc"), torch.div(x, r, rounding_mode="floor")),
        *(torch.atan2(x, r), n / 4, torch.remainder(n, 5)),
    ),
    "bits": lambda x, p, r, i, n: (
        *(n & 6, n | 1, n ^ 3, ~n, i << 2, n >> 1),
        *((x > 0) ^ (p > 1), torch.logical_and(n, x > 0), torch.logical_not(n)),
        *(x.view(torch.int32), n.int().view(torch.float32) * 0),
    ),
    "activations": lambda x, p, r, i, n: (
        *(F.leaky_relu(x, 0.1), F.elu(x, 0.5), F.selu(x), F.celu(x, 2.0), F.mish(x)),
        *(F.softplus(x), F.softplus(x, 2), F.hardswish(x), F.hardsigmoid(x), F.relu6(x * 3)),
        *(F.logsigmoid(x), F.glu(x, -1), F.hardtanh(x, -2, 1), F.softsign(x), F.tanhshrink(x)),
        *(F.prelu(x, torch.tensor([0.25])), F.threshold(x, 0.5, -1), F.hardshrink(x, 1.0)),
    ),
}

PLACES = {
    "read": lambda x, p, r, i, n: (
        *(x[i[:, 0] - 1, i[:, 1], i[:, 2]], x[:, i[0]], x[..., i], x[1, i, i], x[:, i[0], i[1]]),
        *(x[i[:, :1] % 2, :, i[:, 1:]], p.gather(2, i[:, :2, None].expand(2, 2, 3))),
        torch.take_along_dim(x, i[:, :, None], 1),
    ),
    "write": lambda x, p, r, i, n: (
        *(
            x.index_copy(2, i[0], p[:, :, :3]),
            x.index_add(1, i[1], p),
            x.index_fill(1, i[0, :2], 7),
        ),
        *(x.index_put((i[:, 0] % 2, i[:, 1]), r), x.index_put((i[0] % 2, i[0]), p[0], True)),
        *(x.scatter(2, i[:, :, None], p), x.scatter(1, i[:, None], 9.0), x.masked_fill(x > 1, 0)),
        *(x.scatter_add(2, i[:, :, None], p), x.scatter_reduce(2, i[:, :, None], p, "amax")),
        torch.where(x > 0, x, 0).index_put((x < -1,), torch.tensor(5.0)),
    ),
    "slices": lambda x, p, r, i, n: (
        torch.slice_scatter(x, p[:, :, :2], 2, 0, 4, 2),
        *(torch.slice_scatter(x, p[:, 1:], 1, 1), torch.select_scatter(x, p[:, 0], 1, -1)),
        *(x.diagonal_scatter(p[:, :, 0], 0, 1, 2), x.unfold(2, 2, 1), x.unfold(1, 2, 1)),
        *(x.as_strided((3, 4), (1, 4), 2), x.flip(1, 2), x.roll(1, 2), x.roll(5), x.rot90()),
        *(x.tril(), x.triu(1), x.diagonal(0, 1, 2), x.movedim(0, 2), x.repeat_interleave(2, 1)),
    ),
    "padding": lambda x, p, r, i, n: (
        *(F.pad(x, (1, 2), mode="reflect"), F.pad(x, (1, 2), mode="replicate")),
        *(F.pad(x, (2, 1), mode="circular"), F.pad(x[None], (1, 1, 1, 0), mode="reflect")),
    ),
}

ORDER = {
    "reductions": lambda x, p, r, i, n: (
        *(p.prod(-1), x.any(1), (x > -9).all(), x.norm(dim=-1), x.std(1), x.logsumexp(2)),
        *(torch.linalg.vector_norm(x, 1, 1), torch.linalg.vector_norm(x, float("inf"), 2)),
        *(x.aminmax(dim=1), n.sum(1), n.amax((0, 2)), x.count_nonzero(1), x.argmin(2, True)),
    ),
    "running": lambda x, p, r, i, n: (
        *(x.cumsum(1), p.cumprod(2), x.logcumsumexp(2), n.cumsum(2), x.diff(dim=2)),
    ),
    "order": lambda x, p, r, i, n: (
        *(*x.sort(1), *x.sort(-1, descending=True), *x.topk(2, 1), *x.topk(3, largest=False)),
        *(n.argsort(2), torch.histc(x, 4, -3, 3)),
    ),
}


def _families(table: dict[str, Any]) -> Any:
    return lambda *inputs: tuple(y for f in table.values() for y in f(*inputs))


@pytest.mark.parametrize("table", [ELEMENTS, PLACES, ORDER], ids=["elements", "places", "order"])
def test_operators_equal_those_of_pytorch(table):
    _check(_families(table), X, P, ROW, IDS, N, error=SUM_ERROR if table is ORDER else SMALL_ERROR)


IMAGE = torch.linspace(-2, 2, 2 * 4 * 7 * 6).reshape(2, 4, 7, 6).sin()


def _weights(*shape: int) -> Any:
    return torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape).cos()


CONVOLUTIONS = {
    "conv": lambda x: (
        F.conv2d(x, _weights(3, 4, 3, 2), _weights(3), stride=2, padding=(1, 0)),
        F.conv2d(x, _weights(4, 1, 3, 3), padding="same", groups=4),
        F.conv2d(x[0], _weights(2, 2, 2, 2), dilation=2, groups=2),
        F.conv1d(x[:, :, 0], _weights(3, 4, 3), padding=1),
        F.conv3d(x[:, :, None], _weights(2, 4, 1, 2, 2)),
    ),
    "transposed": lambda x: (
        F.conv_transpose2d(x, _weights(4, 3, 3, 2), _weights(3), 2, 1, (1, 0)),
        F.conv_transpose1d(x[:, :, 0], _weights(4, 2, 4), stride=2, groups=2),
    ),
    "pools": lambda x: (
        *(F.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 2, ceil_mode=True), F.max_pool1d(x[0], 2)),
        *(F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, (2, 3), count_include_pad=False, padding=1)),
        *(F.avg_pool2d(x, 2, divisor_override=3), F.avg_pool1d(x[0], 3, 1)),
        *(F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, 4))),
        F.adaptive_avg_pool2d(x, (7, 2)),
    ),
    "norms": lambda x: (
        *(F.group_norm(x, 2), F.group_norm(x, 4, _weights(4), _weights(4))),
        *(F.instance_norm(x), F.batch_norm(x, _weights(4), _weights(4).abs(), _weights(4))),
    ),
    "resize": lambda x: (
        *(F.interpolate(x, scale_factor=2), F.interpolate(x, (5, 9))),
        *(F.interpolate(x, (5, 9), mode="nearest-exact"), F.pixel_shuffle(x, 2)),
        *(F.interpolate(x, (5, 9), mode="bilinear"), F.pixel_unshuffle(x[..., :6, :], 2)),
        F.interpolate(x, (9, 5), mode="bilinear", align_corners=True),
        F.interpolate(x, scale_factor=(1.5, 0.5), mode="bilinear"),
        F.interpolate(x, (10, 8), mode="bicubic"),
        F.interpolate(x[:, :, 0], 11, mode="linear"),
    ),
}


def test_operators_of_images_equal_those_of_pytorch():
    _check(_families(CONVOLUTIONS), IMAGE, error=SUM_ERROR)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_equal_those_of_pytorch_and_stay_whole(kind):
    layer = getattr(torch.nn, kind)(4, 5, num_layers=2, bidirectional=True, batch_first=True)
    graph = _check(layer, X, error=SUM_ERROR)
    assert [n.op.name for n in graph.nodes].count(kind.lower()) == 4


class Quantized(torch.nn.Module):
    """A linear layer as PT2E leaves it: int8 weights of channels, int8 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.arange(-6, 6, dtype=torch.int8).reshape(3, 4))
        self.register_buffer("scales", torch.tensor([0.5, 0.25, 0.125]))
        self.register_buffer("zeros", torch.tensor([0, 1, -1]))

    def forward(self, x: Any) -> Any:
        q = torch.ops.quantized_decomposed
        x = q.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)
        x = q.dequantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)
        weight = q.dequantize_per_channel(
            self.weight, self.scales, self.zeros, 0, -128, 127, torch.int8
        )
        y = q.quantize_per_channel(weight, self.scales, self.zeros, 0, -128, 127, torch.int8)
        return F.linear(x, weight), y


def test_quantised_layers_keep_their_integers():
    from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers the operators

    graph = _check(Quantized(), X, error=SUM_ERROR)
    stored = next(p for p in graph.parameters if p.name == "weight")
    assert str(stored.type.dtype) == "int8"


def test_attention_over_more_dimensions_and_with_masked_rows():
    q, k, v = torch.randn(3, 2, 3, 2, 5, 8)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    sdpa = F.scaled_dot_product_attention
    _check(lambda q, k, v: (sdpa(q, k, v), sdpa(q, k, v, attn_mask=mask)), q, k, v, error=SUM_ERROR)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x.masked_scatter(x > 0, x), "masked_scatter"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5), "dropout"),
        (lambda x: torch.fft.fft(x).real, "fft"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(function, words):
    with pytest.raises(UnsupportedOpError, match=words):
        to_graph(Apply(function), X)
