"""Convolutional classifiers built natively: their outputs in both fidelities, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.compile import compile_model
from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends.cnn import CnnModel, from_config
from emuron.compiler.frontends.zoo import open_model, zoo
from emuron.errors import ModelFileError, UnknownNameError, UsageError
from emuron.numerics.matmul import sums_in_order

CNNS = ("resnet18", "resnet50", "vgg11")


def _small(name: str) -> CnnModel:
    fields = {**zoo(small=True)[name].config}
    return from_config(fields, name=name, seed=0)


def _pixels(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("name", CNNS)
def test_both_fidelities_give_the_same_bits(name):
    if not sums_in_order():
        pytest.skip("this host's BLAS adds small products in another order: low bits differ")
    model = compile_model(_small(name), on="inf2.xlarge", batch=2)
    inputs = {"pixel_values": _pixels(2)}
    executed = model.run(inputs, fidelity="instruction")["logits"]
    assert len(np.unique(executed)) > 10
    np.testing.assert_array_equal(executed, model.run(inputs)["logits"])


def test_a_residual_network_has_its_sizes_and_every_weight_of_the_original():
    graph = open_model("resnet50", weights=False).graph(1, 0)
    weights = sum(p.type.elements for p in graph.parameters if "running" not in p.name)
    assert weights == 25_557_032  # torchvision's documentation of resnet50
    assert graph.outputs[0].shape == (1, 1000)


def test_a_vgg_network_has_every_weight_of_the_original():
    graph = open_model("vgg11", weights=False).graph(2, 0)
    assert sum(p.type.elements for p in graph.parameters) == 132_863_336  # torchvision, vgg11


def _functional(graph, weights, pixels):
    """Run a small network with PyTorch's own layers, node by node."""
    import torch
    from torch.nn import functional as f

    layers = {
        "conv": lambda op, x, *w: f.conv2d(x, *w, stride=op.stride, padding=op.padding[0][0]),
        "batch_norm": lambda op, x, gamma, beta, mean, variance: f.batch_norm(
            x, mean, variance, gamma, beta, eps=op.epsilon
        ),
        "relu": lambda op, x: torch.relu(x),
        "add": lambda op, x, y: x + y,
        "reduce_window": lambda op, x: f.max_pool2d(x, op.window, op.stride, op.padding[0][0]),
        "reduce": lambda op, x: x.mean(op.axes),
        "linear": lambda op, x, *w: f.linear(x, *w),
        "reshape": lambda op, x: x.reshape(op.shape),
        "broadcast": lambda op, x: x.broadcast_to(op.shape),
    }
    found = {"pixel_values": torch.from_numpy(pixels), **weights}
    for node in graph.nodes:
        operands = (found[v.name] for v in node.inputs)
        found[node.outputs[0].name] = layers[node.op.name](node.op, *operands)
    return found[graph.outputs[0].name].numpy()


@pytest.mark.torch
@pytest.mark.parametrize("name", CNNS)
def test_outputs_are_those_of_pytorch_layers(name):
    torch = pytest.importorskip("torch")
    graph = _small(name).graph(2)
    weights = {p.name: torch.from_numpy(p.load()) for p in graph.parameters}
    expected = _functional(graph, weights, _pixels(2))
    found = Evaluator(graph).run({"pixel_values": _pixels(2)})["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_senseless_configs_and_requests_are_refused_by_name():
    fields = {**zoo()["vgg11"].config}
    with pytest.raises(ModelFileError, match="widths"):
        from_config({**fields, "widths": [64]})
    with pytest.raises(ModelFileError, match="'depths' must be a list"):
        from_config({**fields, "depths": [1, 0]})
    with pytest.raises(UnknownNameError, match="convolutional model type"):
        from_config({"model_type": "alexnet"})
    model = _small("resnet18")
    with pytest.raises(UsageError, match="batch must be at least 1"):
        model.graph(0)
    with pytest.raises(UnknownNameError, match="classify"):
        model.graph(1, task="segment")
