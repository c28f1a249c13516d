"""Tokens, padding and chat templates."""

from __future__ import annotations

import json

import pytest
import tokenizers

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.errors import ModelFileError, UsageError

VOCABULARY = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "</s>", "a", "cat", "sat"])}
CHAT = "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"


@pytest.fixture
def folder(tmp_path):
    model = tokenizers.models.WordLevel(VOCABULARY, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.enable_padding(length=128)
    backend.enable_truncation(2)
    backend.save(str(tmp_path / "tokenizer.json"))
    settings = {
        "pad_token": "[PAD]",
        "eos_token": {"content": "</s>"},
        "bos_token": "<s>",
        "chat_template": CHAT + "{% if add_generation_prompt %}<assistant>{% endif %}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_texts_are_encoded_whole_and_decoded_back(folder):
    tokenizer = Tokenizer.open(folder)
    ids = tokenizer.encode("a cat sat")
    assert ids == [3, 4, 5]
    assert tokenizer.decode(ids) == "a cat sat"


def test_a_batch_is_padded_on_the_right(folder):
    encoding = Tokenizer.open(folder).encode_batch(["a cat", "sat"], 3)
    assert encoding.input_ids.tolist() == [[3, 4, 0], [5, 0, 0]]
    assert encoding.attention_mask.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert encoding.token_type_ids.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_text_longer_than_the_graph_is_refused(folder):
    with pytest.raises(UsageError, match="text 0 has 3 tokens, more than the sequence length 2"):
        Tokenizer.open(folder).encode_batch(["a cat sat"], 2)


def test_special_tokens_are_found_by_role(folder):
    tokenizer = Tokenizer.open(folder)
    assert tokenizer.token_id("eos_token") == 2
    assert tokenizer.token_id("sep_token") is None


def test_a_chat_becomes_a_prompt(folder):
    prompt = Tokenizer.open(folder).apply_chat_template([{"role": "user", "content": "hi"}])
    assert prompt == "<s><user>hi<assistant>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses: roles must alternate"),
        ("{% if %}", "refuses"),
        ("{{ messages.__class__.__mro__ }}", "refuses"),
        ("{{ messages.append(1) }}", "refuses"),
    ],
)
def test_a_template_that_refuses_or_breaks_out_is_a_clear_error(template, message, folder):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UsageError, match=message):
        Tokenizer.open(folder).apply_chat_template([])


def test_a_model_without_a_chat_template_says_so(folder):
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(UsageError, match="no chat template"):
        Tokenizer.open(folder).apply_chat_template([])


@pytest.mark.parametrize("content", ["", "{}", "[1"])
def test_a_broken_tokenizer_file_is_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelFileError, match="not a tokenizer"):
        Tokenizer.open(tmp_path)


def test_a_missing_tokenizer_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.open(tmp_path)
