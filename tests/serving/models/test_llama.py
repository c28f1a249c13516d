"""The Llama family over a block KV cache, against Transformers and against itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from emuron.compiler.ops import Autocast
from emuron.errors import ModelFileError
from emuron.numerics.backend import get_backend
from emuron.serving.engine import LLMEngine
from emuron.serving.models.llama import LlamaModel, eos_token_ids, kv_bytes_per_token, open_llama
from emuron.serving.request import SamplingParams
from emuron.serving.runner import ModelTokenSource
from emuron.serving.scheduler import SchedulerConfig
from emuron.serving.step_timer import ModelStepTimer

PROMPTS = [
    np.random.default_rng(seed).integers(5, 384, 3 + 17 * seed % 150).tolist() for seed in range(16)
]


def engine(folder: Path, backend: str = "numpy", **limits: int) -> LLMEngine:
    config = SchedulerConfig(**{"max_model_len": 256, "max_num_seqs": 8, **limits})
    model = LlamaModel(
        open_llama(folder), config.total_blocks, config.block_size, backend=get_backend(backend)
    )
    source = ModelTokenSource(model, config.resolved_buckets.context)
    return LLMEngine(config, source, ModelStepTimer(lambda kind, batch, tokens, context: 1e-3))


def test_sixteen_sequences_at_once_give_the_tokens_of_one_by_one(tiny_llama: Path) -> None:
    params = SamplingParams(max_tokens=8, temperature=0)
    together = engine(tiny_llama).run((prompt, params) for prompt in PROMPTS)
    one_by_one = engine(tiny_llama, max_num_seqs=1).run((prompt, params) for prompt in PROMPTS)
    assert [c.token_ids for c in together] == [c.token_ids for c in one_by_one]


def test_logits_are_the_same_bits_whatever_else_was_computed(tiny_llama: Path) -> None:
    quiet = LlamaModel(open_llama(tiny_llama), 32, 8)
    busy = LlamaModel(open_llama(tiny_llama), 32, 8)
    busy.prefill(PROMPTS[3], 256, tuple(range(16, 31)))
    mine = tuple(range(4, 15))
    for model, blocks in ((quiet, mine), (busy, mine[::-1])):
        model.prefill(PROMPTS[1], 128, blocks)
    for position in range(20, 40):
        busy.decode(9, 100, 128, tuple(range(16, 31)))
        expected = quiet.decode(7, position, 128, mine)
        found = busy.decode(7, position, 128, mine[::-1])
        assert found.tobytes() == expected.tobytes()


def test_decoding_equals_a_prefill_of_the_same_tokens(tiny_llama: Path) -> None:
    """Two graphs, one meaning: float32 sums in another order, hence 1e-4 of logits about 10."""
    model = LlamaModel(open_llama(tiny_llama), 32, 8)
    tokens = PROMPTS[5]
    blocks = tuple(range(20))
    model.prefill(tokens[:40], 128, blocks)
    for position in range(40, 60):
        decoded = model.decode(tokens[position], position, 128, blocks)
    whole = model.prefill(tokens[:60], 256, tuple(range(20, 30)))
    np.testing.assert_allclose(decoded, whole, atol=1e-4)


def test_contexts_beyond_the_first_bucket_are_read(tiny_llama: Path) -> None:
    model = LlamaModel(open_llama(tiny_llama), 32, 8)
    model.load()
    tokens = [5 + i % 300 for i in range(131)]
    model.prefill(tokens[:128], 128, tuple(range(17)))
    for position in range(128, 131):
        decoded = model.decode(tokens[position], position, 256, tuple(range(17)))
    whole = model.prefill(tokens, 256, tuple(range(15, 32)))
    np.testing.assert_allclose(decoded, whole, atol=1e-4)  # as above


def test_autocast_changes_the_logits_a_little(tiny_llama: Path) -> None:
    opened = open_llama(tiny_llama)
    exact = LlamaModel(opened, 32, 8).prefill(PROMPTS[2], 128, tuple(range(16)))
    cast = LlamaModel(opened, 32, 8, autocast=Autocast("matmult"))
    rounded = cast.prefill(PROMPTS[2], 128, tuple(range(16)))
    error = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 5e-2  # bfloat16 has 8 bits: 2**-9 an operand, over some layers


@pytest.mark.torch
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_greedy_tokens_equal_those_of_transformers(tiny_llama: Path, backend: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    params = SamplingParams(max_tokens=40, temperature=0)
    answers = engine(tiny_llama, backend).run((prompt, params) for prompt in PROMPTS)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([prompt])
        expected = reference.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert answer.token_ids == tuple(expected[0, len(prompt) :].tolist())


def test_the_end_of_text_comes_from_the_generation_config_first(
    tiny_llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    assert eos_token_ids(open_llama(folder)) == (1,)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [1, 7]}))
    assert eos_token_ids(open_llama(folder)) == (1, 7)
    path.write_text(json.dumps({"eos_token_id": "</s>"}))
    with pytest.raises(ModelFileError, match="eos_token_id must be a token id"):
        eos_token_ids(open_llama(folder))


def test_a_model_that_generates_no_text_is_refused(tmp_path: Path) -> None:
    fields = {"model_type": "bert", "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1}
    fields |= {"num_attention_heads": 1, "intermediate_size": 8, "max_position_embeddings": 8}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    np_file = pytest.importorskip("safetensors.numpy")
    np_file.save_file({"x": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="'bert' model generates no text"):
        open_llama(tmp_path)


def test_a_token_of_cache_is_a_key_and_a_value_a_layer(tiny_llama: Path) -> None:
    layers, key_heads, head_size, float32_bytes = 2, 2, 16, 4
    expected = 2 * layers * key_heads * head_size * float32_bytes
    assert kv_bytes_per_token(open_llama(tiny_llama)) == expected
