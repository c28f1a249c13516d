"""Models that PyTorch exported to ONNX against PyTorch itself."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, split_blocks

pytestmark = [pytest.mark.onnx, pytest.mark.torch]
torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
transformers = pytest.importorskip("transformers")

from emuron.compiler.frontends import onnx_model  # noqa: E402
from emuron.compiler.frontends.onnx import to_graph  # noqa: E402

FLOAT32_ERROR = 3e-5
"""Sums of up to 300 float32 products in another order, through a few normalised layers."""


def bert() -> tuple[Any, dict[str, Any]]:
    config = transformers.BertConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=128,
        vocab_size=50,
        max_position_embeddings=64,
    )
    ids = torch.randint(0, 50, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    return transformers.BertModel(config), {"input_ids": ids, "attention_mask": mask}


def resnet() -> tuple[Any, dict[str, Any]]:
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24], depths=[1, 2], layer_type="bottleneck"
    )
    return transformers.ResNetModel(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def vit() -> tuple[Any, dict[str, Any]]:
    config = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
    )
    return transformers.ViTModel(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def llama() -> tuple[Any, dict[str, Any]]:
    config = transformers.LlamaConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        vocab_size=50,
        max_position_embeddings=64,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config), {"input_ids": torch.randint(0, 50, (2, 16))}


def export(module: Any, inputs: dict[str, Any], path: Path, opset: int, **options: Any) -> None:
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (), path, kwargs=inputs, dynamo=True, opset_version=opset, **options
            )
    finally:
        logging.disable(logging.NOTSET)


def made(kind: Any) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module, inputs = kind()
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module.eval(), inputs


def compared(graph: Graph, module: Any, inputs: dict[str, Any]) -> None:
    named = {v.name: inputs[v.name].numpy() for v in graph.inputs}
    found = next(iter(Evaluator(graph).run(named).values()))
    with torch.no_grad():
        expected = module(**inputs)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=FLOAT32_ERROR * np.abs(expected).max())


EXPORTS = [
    pytest.param(bert, 23, {"attention": 3, "layer_norm": 7, "gelu": 3, "linear": 19}),
    pytest.param(resnet, 20, {"conv": 11, "linear": 0}, marks=pytest.mark.slow),
    pytest.param(bert, 20, {"attention": 3, "layer_norm": 7}, marks=pytest.mark.slow),
    pytest.param(resnet, 23, {"conv": 11}, marks=pytest.mark.slow),
    pytest.param(vit, 20, {"layer_norm": 5, "conv": 1}, marks=pytest.mark.slow),
    pytest.param(vit, 23, {"attention": 2, "layer_norm": 5}, marks=pytest.mark.slow),
    pytest.param(llama, 20, {"attention": 3, "rms_norm": 7, "rope": 6}, marks=pytest.mark.slow),
    pytest.param(llama, 23, {"attention": 3, "rms_norm": 7, "rope": 6}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "opset", "whole"), EXPORTS)
def test_an_exported_model_gives_what_pytorch_gives(
    kind: Any, opset: int, whole: dict[str, int], tmp_path: Path
):
    module, inputs = made(kind)
    export(module, inputs, tmp_path / "model.onnx", opset)
    graph = to_graph(tmp_path / "model.onnx")
    compared(graph, module, inputs)
    found = Counter(n.op.name for n in graph.nodes)
    assert {name: found[name] for name in whole} == whole


@pytest.mark.slow
def test_dynamic_sizes_are_bound_and_layers_repeat(tmp_path: Path):
    module, inputs = made(bert)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq", max=64)}
    shapes = dict.fromkeys(inputs, sizes)
    export(module, inputs, tmp_path / "bert.onnx", 23, dynamic_shapes=shapes)
    graph = onnx_model.load(tmp_path / "bert.onnx").graph(batch=2, sequence=16)
    compared(graph, module, inputs)
    layers = [b.hash for b in split_blocks(graph) if ".layer." in b.name]
    assert len(layers) == 3
    assert len(set(layers[1:])) == 1
