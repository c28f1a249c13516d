"""The same two models, with the same weights, arrive through every framework."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emuron.compiler.compile import compile_model
from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends import mxnet, tensorflow
from emuron.compiler.graph import Graph
from tests.journeys.fixtures import small_models as small

FIXTURES = Path(__file__).parent / "fixtures"
FLOAT32_ERROR = 2e-5
"""Sums of up to 72 float32 products in another order, on values up to 5, through a few layers."""

WHOLE = {"attention": small.LAYERS, "gelu": small.LAYERS, "layer_norm": 2 * small.LAYERS + 1}
"""Composites of the encoder, whatever the framework calls them or makes of them."""


def _from_torch(kind: str) -> Graph:
    pytest.importorskip("torch")
    from emuron.compiler.frontends.torch import to_graph
    from tests.journeys.fixtures import torch_models

    if kind == "encoder":
        return to_graph(torch_models.Encoder(small.encoder_weights()), (small.token_ids(),))
    return to_graph(torch_models.Cnn(small.cnn_weights()).eval(), (small.images(),))


def _from_jax(kind: str) -> Graph:
    pytest.importorskip("jax")
    from emuron.compiler.frontends.jax import to_graph
    from tests.journeys.fixtures import jax_models

    if kind == "encoder":
        weights = small.encoder_weights()
        return to_graph(jax_models.encoder, (small.token_ids(),), params=weights)
    images = small.images().transpose(0, 2, 3, 1)
    return to_graph(jax_models.cnn, (images,), params=small.cnn_weights())


def _from_onnx(kind: str) -> Graph:
    pytest.importorskip("onnx")
    from emuron.compiler.frontends.onnx import to_graph
    from tests.journeys.fixtures import onnx_models

    return to_graph(onnx_models.encoder() if kind == "encoder" else onnx_models.cnn())


def _from_tensorflow(kind: str) -> Graph:
    return tensorflow.load(FIXTURES / f"tensorflow_{kind}").graph(small.BATCH, small.LENGTH)


def _from_mxnet(kind: str) -> Graph:
    shape = (small.BATCH, small.LENGTH) if kind == "encoder" else (small.BATCH, *small.IMAGE)
    shapes = {"ids" if kind == "encoder" else "images": shape}
    return mxnet.load(FIXTURES / f"mxnet_{kind}-symbol.json").graph(shapes=shapes)


FRAMEWORKS = [
    pytest.param(_from_torch, marks=pytest.mark.torch, id="torch"),
    pytest.param(_from_jax, marks=pytest.mark.jax, id="jax"),
    pytest.param(_from_onnx, marks=pytest.mark.onnx, id="onnx"),
    pytest.param(_from_tensorflow, id="tensorflow"),
    pytest.param(_from_mxnet, id="mxnet"),
]


def _only(graph: Graph, array: np.ndarray) -> np.ndarray:
    """Return the output of a graph of one input, channels last where it takes them so."""
    (value,) = graph.inputs
    if array.ndim == 4 and value.shape[-1] == small.IMAGE[0]:
        array = array.transpose(0, 2, 3, 1)
    (found,) = Evaluator(graph).run({value.name: array}).values()
    return found


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_encoder_arrives_whole_and_gives_the_same_outputs(framework):
    graph = framework("encoder")
    names = Counter(n.op.name for n in graph.nodes)
    assert {name: names[name] for name in WHOLE} == WHOLE
    assert names["matmul"] == 0
    ids = small.token_ids()
    np.testing.assert_allclose(_only(graph, ids), small.encoder(ids), atol=FLOAT32_ERROR, rtol=0)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_cnn_arrives_and_gives_the_same_outputs(framework):
    graph = framework("cnn")
    names = Counter(n.op.name for n in graph.nodes)
    assert names["conv"] == names["batch_norm"] == names["relu"] == 3
    assert names["permute"] <= 3  # of what comes with its channels last
    images = small.images()
    np.testing.assert_allclose(_only(graph, images), small.cnn(images), atol=FLOAT32_ERROR, rtol=0)


@pytest.mark.parametrize("fidelity", ["operator", "instruction"])
def test_the_encoder_of_a_saved_model_runs_on_an_instance(fidelity):
    graph = tensorflow.load(FIXTURES / "tensorflow_encoder").graph(small.BATCH, small.LENGTH)
    model = compile_model(graph, on="inf2.xlarge", autocast="none")
    ids = small.token_ids()
    found = model.run({"ids": ids}, fidelity=fidelity)["hidden"]
    np.testing.assert_allclose(found, small.encoder(ids), atol=FLOAT32_ERROR, rtol=0)
    assert model.latency.total_us > 0
