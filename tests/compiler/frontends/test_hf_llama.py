"""Decoders of the Llama family against transformers: logits, caches, greedy text."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator, WeightCache
from emuron.compiler.frontends import hf
from emuron.compiler.graph import split_blocks
from emuron.errors import ModelFileError, PromptTooLongError, UnsupportedOpError, UsageError

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CASES = [
    pytest.param("LlamaForCausalLM", {}, id="llama"),
    pytest.param(
        "LlamaForCausalLM",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": LLAMA3_ROPE,
        },
        id="llama3-tied-biased",
    ),
    pytest.param(
        "LlamaForCausalLM",
        {
            "head_dim": 16,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
        },
        id="llama-linear-rope",
    ),
    pytest.param("MistralForCausalLM", {"sliding_window": None}, id="mistral"),
    pytest.param("Qwen2ForCausalLM", {}, id="qwen2"),
    pytest.param("Qwen3ForCausalLM", {"head_dim": 16}, id="qwen3"),
]
CONTEXT = 32
FLOAT32_ERROR = 2e-5
"""Sums of up to 96 float32 products in another order, through 3 layers; logits reach about 5."""


def _caches(model: hf.HFModel, batch: int) -> dict[str, np.ndarray]:
    c = model.config
    shape = (batch, c.key_heads, CONTEXT, c.head_size)
    names = (f"{kind}_cache.{i}" for i in range(c.layers) for kind in ("key", "value"))
    return {name: np.zeros(shape, model.dtype.np) for name in names}


class _Greedy:
    """Runs a batch of prompts, padded on the right, and continues them greedily."""

    def __init__(self, model: hf.HFModel, prompts: np.ndarray, lengths: list[int]) -> None:
        batch, width = prompts.shape
        weights = WeightCache()
        prefill = Evaluator(model.prefill_graph(batch, width, CONTEXT), weights=weights)
        self.decode = Evaluator(model.decode_graph(batch, CONTEXT), weights=weights)
        self.lengths = np.array(lengths)
        self.caches = prefill.run(
            {
                "input_ids": prompts,
                "positions": np.tile(np.arange(width), (batch, 1)),
                "last_token": self.lengths - 1,
                **_caches(model, batch),
            }
        )
        self.logits = self.caches.pop("logits")

    def step(self) -> list[int]:
        """Choose the next tokens and run them."""
        tokens = self.logits.argmax(-1)
        self.caches = self.decode.run(
            {
                "input_ids": tokens[:, None],
                "positions": self.lengths[:, None],
                "last_token": np.zeros_like(tokens),
                **self.caches,
            }
        )
        self.logits = self.caches.pop("logits")
        self.lengths = self.lengths + 1
        return tokens.tolist()


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_logits_and_greedy_text_equal_those_of_transformers(kind, fields, save_model):
    model, folder = save_model(kind, **SIZES | fields)
    torch = pytest.importorskip("torch")
    prompts = np.random.default_rng(1).integers(3, 97, (2, 11))
    run = _Greedy(hf.load(folder), prompts, lengths=[11, 6])
    for row, length in enumerate((11, 6)):
        prompt = torch.tensor(prompts[row : row + 1, :length])
        with torch.no_grad():
            logits = model(prompt).logits[0, -1].numpy()
        np.testing.assert_allclose(run.logits[row], logits, atol=FLOAT32_ERROR, rtol=0)
    steps = np.array([run.step() for _ in range(12)])
    for row, length in enumerate((11, 6)):
        text = model.generate(
            torch.tensor(prompts[row : row + 1, :length]),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )
        assert steps[:, row].tolist() == text[0, length:].tolist()


@pytest.mark.torch
def test_bfloat16_shards_run_in_bfloat16(save_model):
    model, folder = save_model("LlamaForCausalLM", "bfloat16", "20KB", **SIZES)
    torch = pytest.importorskip("torch")
    assert len(list(folder.glob("*.safetensors"))) > 1
    loaded = hf.load(folder)
    assert loaded.dtype == "bfloat16"
    prompts = np.random.default_rng(1).integers(3, 97, (1, 11))
    run = _Greedy(loaded, prompts, lengths=[11])
    assert run.caches["key_cache.0"].dtype == loaded.dtype.np
    with torch.no_grad():
        expected = model.float()(torch.tensor(prompts)).logits[0, -1].numpy()
    found = run.logits[0].astype(np.float32)
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    # About 20 roundings of 2**-9 each between input and logits.
    assert cosine > 0.999


def _config(**changes: object) -> dict[str, object]:
    return {"model_type": "llama", "dtype": "bfloat16"} | SIZES | changes


def test_a_prompt_in_one_go_equals_token_by_token():
    model = hf.from_config(_config(dtype="float32"), seed=5)
    prompt = np.random.default_rng(2).integers(0, 97, (1, 6))
    whole = _Greedy(model, prompt, lengths=[6])
    weights = WeightCache()
    decode = Evaluator(model.decode_graph(1, CONTEXT), weights=weights)
    caches = _caches(model, 1)
    for place in range(6):
        caches = decode.run(
            {
                "input_ids": prompt[:, place : place + 1],
                "positions": np.array([[place]]),
                "last_token": np.array([0]),
                **caches,
            }
        )
        logits = caches.pop("logits")
    np.testing.assert_allclose(logits, whole.logits, atol=1e-6, rtol=0)


def test_several_tokens_can_be_decoded_at_once():
    model = hf.from_config(_config(dtype="float32"), seed=5)
    prompt = np.random.default_rng(2).integers(0, 97, (1, 6))
    whole = _Greedy(model, prompt, lengths=[6])
    outputs = Evaluator(model.decode_graph(1, CONTEXT, tokens=6)).run(
        {
            "input_ids": prompt,
            "positions": np.arange(6)[None],
            "last_token": np.array([5]),
            **_caches(model, 1),
        }
    )
    np.testing.assert_allclose(outputs["logits"], whole.logits, atol=1e-6, rtol=0)


def test_caches_are_aliased_and_layers_repeat():
    graph = hf.from_config(_config()).decode_graph(2, CONTEXT)
    for output, source in graph.aliases.items():
        assert graph.output_names[output] == graph.inputs[source].name
    assert len(graph.aliases) == 2 * SIZES["num_hidden_layers"]
    assert graph.input("key_cache.0").shape == (2, 2, CONTEXT, 8)
    hashes = {b.hash for b in split_blocks(graph) if b.name.startswith("model.layers")}
    assert len(hashes) == 1


def test_a_70b_graph_is_built_from_its_config_alone():
    """Shape of Llama 3 70B: 70.6 billion parameters, two bytes each."""
    fields = {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
        "torch_dtype": "bfloat16",
    }
    graph = hf.from_config(fields).graph(1, 4096, "decode")
    assert graph.parameter_bytes / 1e9 == pytest.approx(141.1, abs=0.1)
    assert len({b.hash for b in split_blocks(graph)}) == 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rope_parameters": {"rope_type": "yarn"}}, UnsupportedOpError, "'yarn'.*linear, llama3"),
        ({"rope_scaling": {"type": "llama3"}}, ModelFileError, "'factor' is missing"),
        ({"rope_scaling": 3}, ModelFileError, "must be an object"),
        ({"num_key_value_heads": 4}, UnsupportedOpError, "6 query heads over 4"),
        ({"model_type": "mistral", "sliding_window": 64}, UnsupportedOpError, "sliding_window 64"),
        ({"attention_bias": "yes"}, ModelFileError, "must be true or false"),
    ],
)
def test_a_config_that_is_not_built_natively_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        hf.from_config(_config(**changes))


def test_lengths_beyond_the_model_or_the_cache_are_refused():
    model = hf.from_config(_config())
    with pytest.raises(UsageError, match="context of 256 tokens exceeds"):
        model.decode_graph(1, 256)
    with pytest.raises(PromptTooLongError, match="33 tokens do not fit into a context of 32"):
        model.prefill_graph(1, 33, 32)
    with pytest.raises(UsageError, match="is a decoder"):
        model.encoder_graph(1, 8)
