"""Graphs of encoders of the BERT family: bert, roberta (xlm-roberta, camembert), distilbert."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from emuron.compiler.frontends.config import ConfigReader
from emuron.compiler.frontends.weights import Weights
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UnknownNameError, UnsupportedOpError
from emuron.numerics.dtypes import DType, int32

TASKS = ("features", "embedding", "masked_lm")
"""features: last_hidden_state (and pooler_output); embedding: mean-pooled unit vectors; masked_lm:
the logits of every token, by the transposed table of embeddings."""

_SMALLEST_NORM = 1e-12
"""torch.nn.functional.normalize's default epsilon."""

_SMALLEST_COUNT = 1e-9
"""Clamp of the token count in sentence-transformers' mean pooling."""

_ACTIVATIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "gelu": ("gelu", "none"),
        "gelu_new": ("gelu", "tanh"),
        "gelu_pytorch_tanh": ("gelu", "tanh"),
        "relu": ("relu", ""),
        "silu": ("silu", ""),
        "swish": ("silu", ""),
        "tanh": ("tanh", ""),
    }
)


def activation(b: GraphBuilder, name: str, x: Value) -> Value:
    """Append the activation that a config calls `name`; raise UnknownNameError otherwise."""
    if name not in _ACTIVATIONS:
        raise UnknownNameError("activation of a model config", name, _ACTIVATIONS)
    function, form = _ACTIVATIONS[name]
    return b.gelu(x, form) if function == "gelu" else b.apply(function, x)


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of one family's weights, relative to the model and to a layer."""

    prefix: str
    word: str
    position: str
    token_type: str
    norm: str
    layer: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str
    head: str
    head_norm: str
    head_bias: str

    @property
    def heads(self) -> tuple[str, ...]:
        """Beginnings of the names of weights outside the encoder, which bear no prefix."""
        return (self.head, self.head_norm, self.head_bias)


_BERT_NAMES = _Names(
    prefix="bert.",
    word="embeddings.word_embeddings",
    position="embeddings.position_embeddings",
    token_type="embeddings.token_type_embeddings",
    norm="embeddings.LayerNorm",
    layer="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    intermediate="intermediate.dense",
    output="output.dense",
    output_norm="output.LayerNorm",
    head="cls.predictions.transform.dense",
    head_norm="cls.predictions.transform.LayerNorm",
    head_bias="cls.predictions.bias",
)
_DISTILBERT_NAMES = _Names(
    prefix="distilbert.",
    word="embeddings.word_embeddings",
    position="embeddings.position_embeddings",
    token_type="",
    norm="embeddings.LayerNorm",
    layer="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    intermediate="ffn.lin1",
    output="ffn.lin2",
    output_norm="output_layer_norm",
    head="vocab_transform",
    head_norm="vocab_layer_norm",
    head_bias="vocab_projector.bias",
)
_ROBERTA_NAMES = _Names(
    **{
        **{f: getattr(_BERT_NAMES, f) for f in _Names.__dataclass_fields__},
        "prefix": "roberta.",
        "head": "lm_head.dense",
        "head_norm": "lm_head.layer_norm",
        "head_bias": "lm_head.bias",
    }
)
_NAMES: Mapping[str, _Names] = MappingProxyType(
    {
        "bert": _BERT_NAMES,
        **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _ROBERTA_NAMES),
        "distilbert": _DISTILBERT_NAMES,
    }
)

MODEL_TYPES = tuple(_NAMES)
"""Values of config.json's `model_type` that this module builds."""


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The fields of an encoder's config.json that shape its graph."""

    model_type: str
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    token_types: int
    epsilon: float
    activation: str
    padding_id: int

    @classmethod
    def read(cls, fields: Mapping[str, Any], where: str) -> BertConfig:
        """Read config.json's fields; raise ModelFileError for a missing or senseless one."""
        r = ConfigReader(fields, where)
        position_kind = r.text("position_embedding_type", default="absolute")
        if position_kind != "absolute":
            raise UnsupportedOpError(
                f"{where}: position_embedding_type {position_kind!r} is not built natively; "
                "compile the PyTorch module instead"
            )
        heads, hidden = r.size("num_attention_heads", "n_heads"), r.size("hidden_size", "dim")
        if hidden % heads:
            raise UnsupportedOpError(f"{where}: {hidden} features do not divide over {heads} heads")
        padding = fields.get("pad_token_id")
        return cls(
            model_type=r.text("model_type"),
            vocabulary=r.size("vocab_size"),
            hidden=hidden,
            layers=r.size("num_hidden_layers", "n_layers"),
            heads=heads,
            intermediate=r.size("intermediate_size", "hidden_dim"),
            positions=r.size("max_position_embeddings"),
            token_types=r.size("type_vocab_size", default=2),
            epsilon=r.number("layer_norm_eps", default=1e-12),
            activation=r.text("hidden_act", "activation", default="gelu"),
            padding_id=padding if isinstance(padding, int) else 0,
        )

    @property
    def longest_sequence(self) -> int:
        """Most tokens of one sequence; roberta gives up the positions to its padding id."""
        return self.positions - (self.padding_id + 1 if self.counts_tokens else 0)

    @property
    def counts_tokens(self) -> bool:
        """Whether positions count the real tokens, as roberta's do."""
        return _NAMES[self.model_type] is _ROBERTA_NAMES


class _Encoder:
    """Builds one graph."""

    def __init__(self, config: BertConfig, weights: Weights, dtype: DType, name: str) -> None:
        self.config, self.weights, self.dtype = config, weights, dtype
        self.names = _NAMES[config.model_type]
        self.b = GraphBuilder(name)
        word = self.names.word + ".weight"
        bare = weights.has(word) or not weights.has(self.names.prefix + word)
        self.prefix = "" if bare else self.names.prefix

    def weight(self, name: str, *shape: int) -> Value:
        type = TensorType(shape, self.dtype)
        full = name if name.startswith(self.names.heads) else self.prefix + name
        return self.b.parameter(full, type, self.weights.loader(full, type))

    def linear(self, x: Value, name: str, outputs: int) -> Value:
        weight = self.weight(f"{name}.weight", outputs, x.shape[-1])
        return self.b.linear(x, weight, self.weight(f"{name}.bias", outputs))

    def norm(self, x: Value, name: str) -> Value:
        size = x.shape[-1]
        weight, bias = self.weight(f"{name}.weight", size), self.weight(f"{name}.bias", size)
        return self.b.layer_norm(x, weight, bias, epsilon=self.config.epsilon)

    def embed(self, ids: Value, mask: Value, token_types: Value | None) -> Value:
        b, c, names = self.b, self.config, self.names
        table = self.weight(f"{names.word}.weight", c.vocabulary, c.hidden)
        x = b.take(table, ids)
        if token_types is not None:
            kinds = self.weight(f"{names.token_type}.weight", c.token_types, c.hidden)
            x = b.add(x, b.take(kinds, token_types))
        places = self.weight(f"{names.position}.weight", c.positions, c.hidden)
        x = b.add(x, self.position_rows(places, mask))
        return self.norm(x, names.norm)

    def position_rows(self, places: Value, mask: Value) -> Value:
        """Rows 0.. of the table; roberta counts real tokens from its padding id + 1."""
        b = self.b
        if not self.config.counts_tokens:
            return b.slice(places, 0, 0, mask.shape[1])
        counted = b.mul(b.cumulative(mask, axis=1), mask)
        return b.take(places, b.add(counted, self.config.padding_id))

    def layer(self, x: Value, keep: Value, index: int) -> Value:
        b, c, names = self.b, self.config, self.names
        prefix = f"{names.layer}.{index}"
        with b.scope("attention"):
            q, k, v = (
                self.heads(self.linear(x, f"{prefix}.{part}", c.hidden))
                for part in (names.query, names.key, names.value)
            )
            y = b.attention(q, k, v, keep, scale=1 / math.sqrt(c.hidden // c.heads))
            y = b.reshape(b.permute(y, 0, 2, 1, 3), *x.shape)
            y = self.linear(y, f"{prefix}.{names.attention_output}", c.hidden)
            x = self.norm(b.add(y, x), f"{prefix}.{names.attention_norm}")
        with b.scope("mlp"):
            y = self.linear(x, f"{prefix}.{names.intermediate}", c.intermediate)
            y = activation(b, c.activation, y)
            y = self.linear(y, f"{prefix}.{names.output}", c.hidden)
            return self.norm(b.add(y, x), f"{prefix}.{names.output_norm}")

    def heads(self, x: Value) -> Value:
        batch, length, hidden = x.shape
        count = self.config.heads
        split = self.b.reshape(x, batch, length, count, hidden // count)
        return self.b.permute(split, 0, 2, 1, 3)

    def token_logits(self, x: Value) -> Value:
        """Logits of every token of the vocabulary, by the table of embeddings."""
        c, names = self.config, self.names
        form = "gelu" if c.counts_tokens else c.activation
        x = activation(self.b, form, self.linear(x, names.head, c.hidden))
        table = self.weight(f"{names.word}.weight", c.vocabulary, c.hidden)
        bias = self.weight(names.head_bias, c.vocabulary)
        return self.b.linear(self.norm(x, names.head_norm), table, bias)

    def embedding(self, x: Value, mask: Value) -> Value:
        """Mean over the real tokens, scaled to length 1."""
        b = self.b
        batch, length, _ = x.shape
        weights = b.cast(mask, self.dtype)
        spread = b.broadcast(b.reshape(weights, batch, length, 1), x.shape)
        total = b.reduce("sum", b.mul(x, spread), (1,))
        count = b.maximum(b.reduce("sum", weights, (1,), keepdims=True), _SMALLEST_COUNT)
        mean = b.div(total, count)
        length_squared = b.reduce("sum", b.mul(mean, mean), (1,), keepdims=True)
        return b.div(mean, b.maximum(b.apply("sqrt", length_squared), _SMALLEST_NORM))


def encoder_graph(
    config: BertConfig, weights: Weights, dtype: DType, batch: int, sequence: int, task: str
) -> Graph:
    """Build the encoder for one batch and sequence length.

    Inputs, int32 [batch, sequence]: input_ids, attention_mask (1 for real tokens) and, where the
    model has them, token_type_ids. Outputs by task: see TASKS.
    """
    if task not in TASKS:
        raise UnknownNameError("encoder task", task, TASKS)
    e = _Encoder(config, weights, dtype, f"{config.model_type}_b{batch}_s{sequence}_{task}")
    b, ids = e.b, TensorType((batch, sequence), int32)
    input_ids, mask = b.input("input_ids", ids), b.input("attention_mask", ids)
    token_types = b.input("token_type_ids", ids) if e.names.token_type else None
    with b.scope("embeddings"):
        x = e.embed(input_ids, mask, token_types)
        keep = b.reshape(b.compare("ne", mask, 0), batch, 1, 1, sequence)
    for index in range(config.layers):
        with b.scope(f"encoder.layer.{index}"):
            x = e.layer(x, keep, index)
    if task == "embedding":
        with b.scope("pooling"):
            b.output("sentence_embedding", e.embedding(x, mask))
        return b.finish()
    if task == "masked_lm":
        with b.scope("head"):
            b.output("logits", e.token_logits(x))
        return b.finish()
    b.output("last_hidden_state", x)
    if config.model_type != "distilbert" and weights.has(f"{e.prefix}pooler.dense.weight"):
        with b.scope("pooler"):
            first = b.reshape(b.slice(x, 1, 0, 1), batch, config.hidden)
            b.output("pooler_output", b.tanh(e.linear(first, "pooler.dense", config.hidden)))
    return b.finish()
