"""Folders of models that transformers and diffusers build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends.torch_model import TorchModel
from emuron.compiler.frontends.zoo import open_model
from emuron.errors import ModelFileError, UnsupportedOpError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

FLOAT32_ERROR = 2e-5
"""Sums of up to 200 float32 products in another order, through normalised layers."""


def _check(opened: Any, module: Any, task: str) -> None:
    inputs = opened.inputs(1, 8, task)
    graph = opened.graph(1, 8, task)
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(module(**inputs))
    leaves = torch.utils._pytree.tree_leaves(inputs)
    named = {v.name: t.numpy() for v, t in zip(graph.inputs, leaves, strict=True)}
    for ours, theirs in zip(Evaluator(graph).run(named).values(), expected, strict=False):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=FLOAT32_ERROR, rtol=FLOAT32_ERROR)


def test_a_folder_of_a_family_of_the_zoo_has_its_parts(tmp_path):
    made = open_model("t5-small", small=True)
    assert isinstance(made, TorchModel)
    module = made.module("encoder")
    module.save_pretrained(tmp_path)
    opened = open_model(str(tmp_path))
    assert [name for name, _ in opened.parts] == ["encoder", "decode"]
    _check(opened, module, "encoder")


def test_a_folder_of_another_family_is_called_by_its_main_input(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    torch.manual_seed(0)
    module = transformers.Dinov2Model(config).eval()
    module.save_pretrained(tmp_path)
    _check(open_model(str(tmp_path)), module, "main")
    bare = open_model(str(tmp_path), weights=False).graph(1, 8)
    assert {n.op.name for n in bare.nodes} >= {"linear", "attention", "layer_norm"}


@pytest.mark.slow
def test_a_pipeline_of_diffusers_is_its_networks(tmp_path):
    pytest.importorskip("diffusers")
    made = open_model("stable-diffusion-v1-5", small=True)
    assert isinstance(made, TorchModel)
    unet = made.module("unet")
    unet.save_pretrained(tmp_path / "unet")
    made.module("vae_decoder").model.save_pretrained(tmp_path / "vae")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    opened = open_model(str(tmp_path))
    assert opened.parts == (("unet", 50), ("vae_decoder", 1))
    _check(opened, unet, "unet")


def _folder(path: Path, **fields: Any) -> str:
    (path / "config.json").write_text(json.dumps(fields))
    return str(path)


def test_what_transformers_does_not_know_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="architectures"):
        open_model(_folder(tmp_path, model_type="swin"))
    timed = _folder(tmp_path, model_type="patchtst", architectures=["PatchTSTModel"])
    with pytest.raises(UnsupportedOpError, match="PatchTSTModel is called with is not known"):
        open_model(timed)


def test_pickled_weights_are_not_opened(tmp_path):
    folder = _folder(tmp_path, model_type="vit", architectures=["ViTModel"])
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelFileError, match="cannot read it as"):
        open_model(folder).graph(1, 8)
