"""JAX functions through their jaxpr, against JAX itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph
from emuron.errors import UnsupportedOpError, UsageError

pytestmark = pytest.mark.jax
jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

from emuron.compiler.frontends import stablehlo  # noqa: E402
from emuron.compiler.frontends.jax import to_graph  # noqa: E402

FLOAT32_ERROR = 2e-6
"""A few roundings of numbers up to 4; functions of the engines are within 2 units."""

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((4, 6), np.float32)
Y = RANDOM.standard_normal((4, 6), np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
UNIT = np.tanh(X) * np.float32(0.9)
IMAGES = RANDOM.standard_normal((2, 8, 8, 4), np.float32)
KERNEL = RANDOM.standard_normal((3, 3, 4, 6), np.float32) / np.float32(6)
PLACES = np.array([3, 0, 2], np.int32)


def _names(graph: Graph) -> Counter[str]:
    return Counter(n.op.name for n in graph.nodes)


def _run(graph: Graph, *arrays: np.ndarray) -> list[np.ndarray]:
    given = dict(zip((v.name for v in graph.inputs), arrays, strict=True))
    return list(Evaluator(graph).run(given).values())


def _check(function: Callable[..., Any], *arrays: np.ndarray, error: float = FLOAT32_ERROR) -> None:
    found = _run(to_graph(function, arrays), *arrays)
    expected = jax.tree_util.tree_leaves(function(*map(jnp.asarray, arrays)))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=error, atol=error)


@pytest.mark.parametrize(
    "function",
    [
        jnp.exp,
        jnp.tanh,
        jnp.sin,
        jnp.cos,
        jnp.floor,
        jnp.ceil,
        jnp.round,
        jnp.sign,
        jnp.abs,
        jnp.negative,
        jnp.expm1,
        jnp.arctan,
        lax.erf,
        lax.erfc,
        jax.nn.sigmoid,
        jax.nn.relu,
        jax.nn.softplus,
        lambda x: lax.integer_pow(x, 5),
        lambda x: lax.clamp(-0.5, x, 0.5),
        lambda x: x.astype(jnp.int32),
        lambda x: jnp.isfinite(x) & (x > 0) | ~(x > 1),
        lambda x: lax.reduce_precision(x, 8, 7),
        lambda x: jnp.exp2(x),
    ],
    ids=lambda f: getattr(f, "__name__", "lambda"),
)
def test_a_function_of_one_operand(function):
    _check(function, X)


@pytest.mark.parametrize(
    "function", [jnp.log, jnp.log1p, jnp.sqrt, lax.rsqrt, lambda x: x**-0.5, lambda x: x**-2]
)
def test_a_function_of_positive_numbers(function):
    _check(function, POSITIVE, error=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        jnp.add,
        jnp.subtract,
        jnp.multiply,
        jnp.maximum,
        jnp.minimum,
        jnp.arctan2,
        lambda x, y: jnp.where(x > y, x, y),
        lambda x, y: (x, x + y),
    ],
)
def test_a_function_of_two_operands(function):
    _check(function, X, Y)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum(0),
        lambda x: x.mean((0, 1)),
        lambda x: x.max(1),
        lambda x: x.min(0),
        lambda x: jnp.prod(x, 1),
        lambda x: jnp.argmax(x, 1),
        lambda x: jnp.argmin(x, 0),
        lambda x: jnp.cumsum(x, 0),
        lambda x: lax.cumsum(x, 1, reverse=True),
        lambda x: jnp.any(x > 1, 1),
        lambda x: lax.top_k(x, 3),
        lambda x: jnp.sort(x, 1),
        lambda x: jnp.argsort(x, 0),
        lambda x: jax.nn.logsumexp(x, 1),
    ],
)
def test_reductions_and_order(function):
    _check(function, X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(3, 8).T,
        lambda x: x[1:4, ::2],
        lambda x: jnp.flip(x, 1),
        lambda x: jnp.pad(x, ((1, 0), (0, 2)), constant_values=3.0),
        lambda x: jnp.concatenate([x, x], 1),
        lambda x: jnp.split(x, 3, 1),
        lambda x: jnp.broadcast_to(x[:, None], (4, 5, 6)),
        lambda x: lax.broadcast_in_dim(x, (6, 3, 4), (2, 0)) if x.shape[0] == 6 else x.T,
        lambda x: jnp.roll(x, 2, 0),
        lambda x: jnp.repeat(x, 2, 1),
        lambda x: jnp.tril(x),
        lambda x: lax.dynamic_slice(x, (1, 2), (2, 3)),
        lambda x: lax.dynamic_update_slice(x, x[:1, :2], (1, 3)),
        lambda x: jnp.arange(6) + x,
        lambda x: jnp.stack([x, x], 1),
    ],
)
def test_movement(function):
    _check(function, X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, i: x[i],
        lambda x, i: jnp.take(x, i, axis=1, mode="clip"),
        lambda x, i: x[i, i],
        lambda x, i: x[:, i],
        lambda x, i: jnp.take_along_axis(x, jnp.stack([i, i, i, i]), 1),
        lambda x, i: x.at[i].set(0.0),
        lambda x, i: x.at[i].add(1.0),
        lambda x, i: x.at[:, i].max(0.5),
        lambda x, i: x.at[i, i].set(2.0),
        lambda x, i: lax.dynamic_slice(x, (i[0], i[2]), (2, 3)),
        lambda x, i: lax.dynamic_update_slice(x, x[:1], (i[2], i[1])),
        lambda x, i: jax.vmap(lambda r, p: lax.dynamic_slice(r, (p,), (2,)))(x[:3], i),
        lambda x, i: jax.nn.one_hot(i, 4) @ x,
    ],
)
def test_places_that_are_data(function):
    _check(function, X, PLACES)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: lax.conv_general_dilated(
            x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        lambda x, w: lax.conv_general_dilated(
            x,
            w.reshape(3, 3, 1, 24),
            (1, 1),
            ((1, 2), (0, 1)),
            rhs_dilation=(2, 1),
            feature_group_count=4,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        lambda x, w: lax.conv_transpose(
            x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        lambda x, w: lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        ),
        lambda x, w: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        lambda x, w: jax.image.resize(x, (2, 4, 16, 4), "linear"),
        lambda x, w: jnp.einsum("bhwc,bhvc->bhwv", x, x),
    ],
)
def test_windows_and_products(function):
    _check(function, IMAGES, KERNEL, error=1e-5)


def _scanned(x: Any) -> Any:
    return lax.scan(lambda c, r: (c * 0.5 + r, c.sum()), jnp.zeros(6), x, reverse=True)


@pytest.mark.parametrize(
    "function",
    [
        _scanned,
        lambda x: lax.fori_loop(0, 3, lambda i, c: c * 1.5 + i, x),
        lambda x: lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] * 2), (0, x))[1],
        lambda x: lax.cond(x[0, 0] > 0, lambda v: v, lambda v: -v, x),
        lambda x: lax.switch((x[0, 1] * 100).astype(jnp.int32), [jnp.sin, jnp.cos, jnp.tanh], x),
        jax.checkpoint(lambda x: jnp.sin(x) * 2),
        jax.grad(lambda x: jnp.tanh(x @ x.T).sum()),
    ],
)
def test_control_flow(function):
    _check(function, X, error=1e-5)


@pytest.mark.parametrize(
    ("function", "error"),
    [(lax.erf_inv, 1e-5), (lax.lgamma, 1e-4), (lax.digamma, 1e-4), (jax.scipy.special.i1e, 1e-5)],
)
def test_a_primitive_that_only_stablehlo_has(function, error):
    """JAX writes these out itself: as polynomials, whose terms cancel near zeros."""
    _check(function, UNIT if function is lax.erf_inv else POSITIVE, error=error)


def test_bfloat16_products_give_float32_where_asked():
    x = X.astype(jnp.bfloat16)
    _check(
        lambda a: lax.dot_general(
            a, a, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
        ),
        x,
    )


# Composites


def _llama(params: dict[str, Any], x: Any, cos: Any, sin: Any) -> Any:
    def norm(v: Any, name: str) -> Any:
        return v * lax.rsqrt((v * v).mean(-1, keepdims=True) + 1e-6) * params[name]

    def rope(v: Any) -> Any:
        a, b = jnp.split(v, 2, -1)
        c, s = cos[None, :, None], sin[None, :, None]
        return jnp.concatenate([a * c - b * s, b * c + a * s], -1)

    h = norm(x, "first")
    q, k, v = ((h @ params[n]).reshape(*x.shape[:2], -1, 8) for n in ("q", "k", "v"))
    k, v = (jnp.repeat(t, 2, 2) for t in (rope(k), v))
    mixed = jax.nn.dot_product_attention(rope(q), k, v, is_causal=True)
    x = x + mixed.reshape(x.shape) @ params["o"]
    h = norm(x, "second")
    return x + (jax.nn.silu(h @ params["gate"]) * (h @ params["up"])) @ params["down"]


SHAPES = {
    "first": (32,),
    "second": (32,),
    "q": (32, 32),
    "k": (32, 16),
    "v": (32, 16),
    "o": (32, 32),
    "gate": (32, 48),
    "up": (32, 48),
    "down": (48, 32),
}
HIDDEN = RANDOM.standard_normal((2, 7, 32), np.float32)
ANGLES = [f(RANDOM.standard_normal((7, 4), np.float32)) for f in (np.cos, np.sin)]


def _weights() -> dict[str, np.ndarray]:
    return {n: RANDOM.standard_normal(s, np.float32) / np.float32(6) for n, s in SHAPES.items()}


def test_a_llama_layer_arrives_in_composites():
    params = _weights()
    graph = to_graph(_llama, (HIDDEN, *ANGLES), params=params)
    names = _names(graph)
    expected = {"rms_norm": 2, "rope": 2, "attention": 1, "silu": 1, "linear": 7}
    assert {n: names[n] for n in expected} == expected
    assert names["matmul"] == names["softmax"] == 0
    (attention,) = (n for n in graph.nodes if n.op.name == "attention")
    assert attention.op.attributes()["causal"]
    assert attention.inputs[1].shape == (2, 2, 7, 8)
    (found,) = _run(graph, HIDDEN, *ANGLES)
    np.testing.assert_allclose(found, _llama(params, HIDDEN, *ANGLES), atol=1e-5, rtol=0)


@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("through_stablehlo", [False, True])
def test_gelu_is_found(approximate, through_stablehlo):
    def function(x: Any) -> Any:
        return jax.nn.gelu(x, approximate=approximate)

    if through_stablehlo and not approximate:
        pytest.skip("jax.export writes erf as a polynomial")
    graph = to_graph(function, (X,))
    if through_stablehlo:
        module = jax.export.export(jax.jit(function))(jnp.asarray(X)).mlir_module()
        graph = stablehlo.to_graph(module)
    assert list(_names(graph)) == ["gelu"]
    np.testing.assert_allclose(_run(graph, X)[0], function(X), atol=FLOAT32_ERROR)


# Weights, names, sources


def test_shapes_alone_make_a_graph_of_a_billion_parameters():
    shape = {"w": jax.ShapeDtypeStruct((32768, 32768), jnp.bfloat16)}
    x = jax.ShapeDtypeStruct((8, 32768), jnp.bfloat16)
    graph = to_graph(lambda p, x: x @ p["w"], (x,), params=shape)
    (weight,) = graph.parameters
    assert (weight.name, weight.type.elements, weight.loader) == ("w.T", 1 << 30, None)
    assert [n.op.name for n in graph.nodes] == ["linear"]


def test_inputs_outputs_and_scopes_have_the_names_of_the_source():
    def step(tokens: Any, cache: dict[str, Any]) -> dict[str, Any]:
        with jax.named_scope("Block_0"):
            return {"next": tokens * 2, "cache": cache["k"] + 1}

    graph = to_graph(step, (X, {"k": Y}))
    assert [v.name for v in graph.inputs] == ["tokens", "cache.k"]
    assert graph.output_names == ("cache", "next")
    assert {n.scope for n in graph.nodes if n.op.name == "mul"} == {"Block.0"}
    assert all("test_jax.py:" in n.source for n in graph.nodes if n.op.name in ("mul", "add"))


def test_a_scan_over_layers_reads_slices_of_the_stacked_weights():
    stacked = RANDOM.standard_normal((3, 6, 6), np.float32)

    def model(w: Any, x: Any) -> Any:
        return lax.scan(lambda h, layer: (jnp.tanh(h @ layer), None), x, w)[0]

    graph = to_graph(model, (X,), params=stacked)
    assert [n.op.name for n in graph.nodes] == ["linear", "tanh"] * 3
    assert [n.scope for n in graph.nodes][::2] == ["scan.0", "scan.1", "scan.2"]
    np.testing.assert_allclose(_run(graph, X)[0], model(stacked, X), atol=FLOAT32_ERROR)


def test_flax_linen_and_nnx_modules_compile():
    nn = pytest.importorskip("flax.linen")
    from flax import nnx

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.LayerNorm()(nn.Dense(8)(x))

    module = Net()
    variables = module.init(jax.random.key(0), X)
    graph = to_graph(module, (X,), params=variables)
    assert {"params.Dense_0.kernel.T", "params.Dense_0.bias"} < {p.name for p in graph.parameters}
    assert _names(graph)["layer_norm"] == _names(graph)["linear"] == 1
    np.testing.assert_allclose(_run(graph, X)[0], module.apply(variables, X), atol=1e-5)

    live = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
    graph = to_graph(live, (X,))
    assert [n.op.name for n in graph.nodes] == ["linear"]
    np.testing.assert_allclose(_run(graph, X)[0], live(X), atol=FLOAT32_ERROR)


# Refusals


def test_a_branch_on_data_is_refused_with_its_line():
    def function(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedOpError, match=r"test_jax\.py:\d+; a compiled program has one"):
        to_graph(function, (X,))


def test_what_has_no_place_is_refused_by_name():
    with pytest.raises(UnsupportedOpError, match="complex64"):
        to_graph(jnp.fft.fft, (X,))
    with pytest.raises(UnsupportedOpError, match="number of turns of a while loop"):
        to_graph(lambda x: lax.while_loop(lambda v: v.sum() < 9, lambda v: v * 2, x), (X,))
    with pytest.raises(UsageError, match="cannot be traced"):
        to_graph(jnp.matmul, (X, X))
    with pytest.raises(UsageError, match="expected a JAX function, found int"):
        to_graph(3, (X,))
