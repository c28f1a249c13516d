"""Model folders in the Hugging Face layout, read natively: no framework is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emuron.compiler.frontends import hf_bert, hf_gpt, hf_llama
from emuron.compiler.frontends.hf_bert import BertConfig
from emuron.compiler.frontends.hf_gpt import GptConfig, GptDecoder
from emuron.compiler.frontends.hf_llama import LlamaConfig, LlamaDecoder
from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.compiler.frontends.weights import (
    NoWeights,
    RandomWeights,
    Weights,
    open_weights,
    read_json,
)
from emuron.compiler.graph import Graph
from emuron.errors import ModelFileError, UnknownNameError, UsageError
from emuron.numerics.dtypes import DType, dtype, float32

_FAMILIES: Mapping[str, type[BertConfig] | type[LlamaConfig] | type[GptConfig]] = {
    **dict.fromkeys(hf_bert.MODEL_TYPES, BertConfig),
    **dict.fromkeys(hf_llama.MODEL_TYPES, LlamaConfig),
    **dict.fromkeys(hf_gpt.MODEL_TYPES, GptConfig),
}

MODEL_TYPES = tuple(_FAMILIES)
"""Values of config.json's `model_type` that are read natively."""


@dataclass(frozen=True, slots=True, eq=False)
class HFModel:
    """A model of the BERT, Llama or GPT family: its config, its weights' source and its dtype."""

    name: str
    config: BertConfig | LlamaConfig | GptConfig
    weights: Weights
    dtype: DType
    fields: Mapping[str, Any]
    folder: Path | None = None

    @property
    def is_decoder(self) -> bool:
        """Whether the model generates text (has a KV cache)."""
        return not isinstance(self.config, BertConfig)

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Tasks of one answer and how often it runs them; of a decoder, for one token."""
        return (("prefill", 1), ("decode", 1)) if self.is_decoder else (("features", 1),)

    def graph(self, batch: int, sequence: int, task: str = "") -> Graph:
        """Build an encoder's task (default features), or `prefill` (a decoder's) or `decode`.

        For `decode`, `sequence` is the length of the context.
        """
        if not self.is_decoder:
            return self.encoder_graph(batch, sequence, task or "features")
        if task in ("", "prefill"):
            return self.prefill_graph(batch, sequence)
        if task == "decode":
            return self.decode_graph(batch, sequence)
        raise UnknownNameError("decoder task", task, ("prefill", "decode"))

    def tokenizer(self) -> Tokenizer:
        """Read the folder's tokenizer; raise UsageError for a model without a folder."""
        if self.folder is None:
            raise UsageError(f"{self.name} was made from a config alone and has no tokenizer")
        return Tokenizer.open(self.folder)

    def encoder_graph(self, batch: int, sequence: int, task: str = "features") -> Graph:
        """Build the encoder's graph; raise UsageError for a decoder or too long a sequence."""
        _check_positive(batch=batch, sequence=sequence)
        if not isinstance(self.config, BertConfig):
            raise UsageError(f"{self.name} is a decoder; build prefill_graph and decode_graph")
        if sequence > self.config.longest_sequence:
            raise UsageError(
                f"a sequence of {sequence} tokens exceeds the {self.config.longest_sequence} "
                f"positions of {self.name}; choose a shorter one"
            )
        return hf_bert.encoder_graph(self.config, self.weights, self.dtype, batch, sequence, task)

    def prefill_graph(self, batch: int, sequence: int, context: int | None = None) -> Graph:
        """Build the graph that reads a prompt from position 0 into caches of `context` tokens."""
        context = sequence if context is None else context
        return self._decoder(batch, sequence, context, decoding=False)

    def decode_graph(self, batch: int, context: int, tokens: int = 1) -> Graph:
        """Build the graph that adds `tokens` tokens at any positions of the caches."""
        return self._decoder(batch, tokens, context, decoding=True)

    def _decoder(self, batch: int, tokens: int, context: int, decoding: bool) -> Graph:
        _check_positive(batch=batch, sequence=tokens, context=context)
        if isinstance(self.config, BertConfig):
            raise UsageError(f"{self.name} is an encoder and has no prefill or decode graph")
        shape = (batch, tokens, context)
        if isinstance(self.config, GptConfig):
            gpt = GptDecoder(self.config, self.weights, self.dtype, shape, decoding)
            return gpt.graph()
        return LlamaDecoder(self.config, self.weights, self.dtype, shape, decoding).graph()


def load(folder: str | Path, *, weights: bool = True, dtype: DType | str | None = None) -> HFModel:
    """Open a model folder; with `weights=False` only config.json is read, for timing.

    `dtype` overrides the config's. Raises ModelFileError naming the file and what is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is not a folder with config.json and model.safetensors")
    fields = read_json(folder / "config.json")
    source = open_weights(folder) if weights else NoWeights()
    where = str(folder / "config.json")
    return _model(folder.resolve().name, fields, where, source, dtype, folder)


def from_config(
    fields: Mapping[str, Any],
    *,
    name: str = "model",
    seed: int | None = None,
    dtype: DType | str | None = None,
) -> HFModel:
    """Make a model from config.json's fields: shapes alone, or random weights from `seed`."""
    source: Weights = NoWeights() if seed is None else RandomWeights(seed)
    return _model(name, fields, f"config of {name}", source, dtype, None)


def _model(
    name: str,
    fields: Mapping[str, Any],
    where: str,
    weights: Weights,
    override: DType | str | None,
    folder: Path | None,
) -> HFModel:
    kind = fields.get("model_type")
    if not isinstance(kind, str):
        raise ModelFileError(f"{where}: the field 'model_type' is missing")
    if kind not in _FAMILIES:
        raise UnknownNameError("model type for the native reader", kind, _FAMILIES)
    config = _FAMILIES[kind].read(fields, where)
    stored = fields.get("dtype") or fields.get("torch_dtype") or float32
    chosen = dtype(stored if override is None else override)
    if chosen.kind != "float":
        raise ModelFileError(f"{where}: a model's dtype must be floating point, found {chosen}")
    return HFModel(name, config, weights, chosen, fields, folder)


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UsageError(f"{name} must be at least 1, found {size}")
