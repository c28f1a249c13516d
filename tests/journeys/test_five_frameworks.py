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


def _only(graph: Graph, array: np.ndarray) -> np.ndarray:
    """Return the output of a graph of one input."""
    (value,) = graph.inputs
    (found,) = Evaluator(graph).run({value.name: array}).values()
    return found


def _check_encoder(graph: Graph) -> None:
    names = Counter(n.op.name for n in graph.nodes)
    assert {name: names[name] for name in WHOLE} == WHOLE
    ids = small.token_ids()
    np.testing.assert_allclose(_only(graph, ids), small.encoder(ids), atol=FLOAT32_ERROR, rtol=0)


def test_the_encoder_arrives_from_tensorflow():
    _check_encoder(
        tensorflow.load(FIXTURES / "tensorflow_encoder").graph(small.BATCH, small.LENGTH)
    )


def test_the_encoder_arrives_from_mxnet():
    shapes = {"ids": (small.BATCH, small.LENGTH)}
    _check_encoder(mxnet.load(FIXTURES / "mxnet_encoder-symbol.json").graph(shapes=shapes))


@pytest.mark.parametrize("fidelity", ["operator", "instruction"])
def test_the_encoder_of_a_saved_model_runs_on_an_instance(fidelity):
    graph = tensorflow.load(FIXTURES / "tensorflow_encoder").graph(small.BATCH, small.LENGTH)
    model = compile_model(graph, on="inf2.xlarge", autocast="none")
    ids = small.token_ids()
    found = model.run({"ids": ids}, fidelity=fidelity)["hidden"]
    np.testing.assert_allclose(found, small.encoder(ids), atol=FLOAT32_ERROR, rtol=0)
    assert model.latency.total_us > 0
