"""Decoders of the GPT family against transformers: logits of a prompt and of the tokens after."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends import hf
from emuron.compiler.graph import split_blocks
from emuron.errors import ModelFileError, UnsupportedOpError, UsageError

GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 61,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 32,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}
OPT = {
    "model_type": "opt",
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "ffn_dim": 80,
    "max_position_embeddings": 32,
    "word_embed_proj_dim": 48,
    "activation_function": "relu",
}
CONTEXT = 16
FLOAT32_ERROR = 2e-5
"""Sums of up to 192 float32 products in another order, through 3 layers."""


def _inputs(model: hf.HFModel, ids: np.ndarray, start: int) -> dict[str, np.ndarray]:
    c = model.config
    shape = (len(ids), c.key_heads, CONTEXT, c.head_size)
    names = (f"{kind}_cache.{i}" for i in range(c.layers) for kind in ("key", "value"))
    return {
        "input_ids": ids,
        "positions": np.tile(np.arange(ids.shape[1]) + start, (len(ids), 1)),
        "last_token": np.full(len(ids), ids.shape[1] - 1),
        **{name: np.zeros(shape, np.float32) for name in names},
    }


@pytest.mark.torch
@pytest.mark.parametrize(("family", "fields"), [("GPT2LMHeadModel", GPT2), ("OPTForCausalLM", OPT)])
def test_logits_equal_those_of_transformers(tmp_path, family: str, fields: dict) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    cls = getattr(transformers, family)
    theirs = cls(cls.config_class(**{k: v for k, v in fields.items() if k != "model_type"})).eval()
    theirs.save_pretrained(tmp_path, safe_serialization=True)
    model = hf.load(tmp_path)
    ids = np.random.default_rng(0).integers(3, 61, (2, 7))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
    prompt = _inputs(model, ids[:, :6], 0)
    found = Evaluator(model.prefill_graph(2, 6, CONTEXT)).run(prompt)
    np.testing.assert_allclose(found["logits"], expected[:, 5], FLOAT32_ERROR, FLOAT32_ERROR)
    step = {**_inputs(model, ids[:, 6:], 6), **{k: v for k, v in found.items() if "cache" in k}}
    found = Evaluator(model.decode_graph(2, CONTEXT)).run(step)
    np.testing.assert_allclose(found["logits"], expected[:, 6], FLOAT32_ERROR, FLOAT32_ERROR)


def test_layers_are_the_same_block() -> None:
    blocks = split_blocks(hf.from_config(GPT2).decode_graph(1, CONTEXT))
    layers = [block.hash for block in blocks if block.name.startswith("transformer.h")]
    assert len(layers) == 3
    assert len(set(layers)) == 1


def test_projected_embeddings_are_refused() -> None:
    with pytest.raises(UnsupportedOpError, match="projected embeddings"):
        hf.from_config({**OPT, "word_embed_proj_dim": 24})


def test_heads_must_divide_the_features() -> None:
    with pytest.raises(UnsupportedOpError, match="48 features do not divide over 5 heads"):
        hf.from_config({**GPT2, "n_head": 5})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ModelFileError, match="'n_embd' is missing"):
        hf.from_config({k: v for k, v in GPT2.items() if k != "n_embd"})


def test_a_context_beyond_the_positions_is_refused() -> None:
    with pytest.raises(UsageError, match="max_position_embeddings of 32"):
        hf.from_config(GPT2).prefill_graph(1, 40)
