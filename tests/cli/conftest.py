"""A model folder small enough for a test, and the command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizers
from safetensors.numpy import save_file
from tokenizers import models, pre_tokenizers, processors

from emuron.cli import main
from emuron.compiler.frontends.hf import from_config

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["a", "the", "cat", "dog", "sleeps", "runs", "bread", "train", "noon"],
)
CONFIG = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture
def emuron(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run the command line and return its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("EMURON_DEBUG", raising=False)

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as stopped:
            main.run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Done(int(stopped.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 64 features with random weights and a tokenizer of a few words."""
    made = tmp_path_factory.mktemp("models") / "tiny-bert"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    graph = from_config(CONFIG, seed=3).encoder_graph(1, 16)
    save_file({p.name: p.load() for p in graph.parameters}, made / "model.safetensors")
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=special
    )
    tokenizer.save(str(made / "tokenizer.json"))
    return made
