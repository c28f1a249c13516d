"""Graphs of decoders of the Llama family: llama, mistral, qwen2, qwen3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from emuron.compiler.frontends.config import ConfigReader
from emuron.compiler.frontends.hf_bert import activation
from emuron.compiler.frontends.weights import NoWeights, Weights
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import PromptTooLongError, UnsupportedOpError, UsageError
from emuron.numerics.dtypes import DType, float32, int32

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Values of config.json's `model_type` that this module builds."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched: `linear` by factor, or Llama 3's three bands."""

    kind: str
    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_positions: int

    @classmethod
    def read(cls, r: ConfigReader) -> RopeScaling | None:
        """Read the scaling group of a config; None if the frequencies stand as they are."""
        kind = r.text("rope_type", "type", default="default")
        if kind == "default":
            return None
        if kind not in ("linear", "llama3"):
            raise UnsupportedOpError(
                f"{r.where}: rope scaling {kind!r} is not built natively (known: linear, llama3); "
                "compile the PyTorch module instead"
            )
        banded = kind == "llama3"
        return cls(
            kind,
            r.number("factor"),
            r.number("low_freq_factor") if banded else 1.0,
            r.number("high_freq_factor") if banded else 1.0,
            r.size("original_max_position_embeddings") if banded else 1,
        )


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """The fields of a decoder's config.json that shape its graph."""

    model_type: str
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    intermediate: int
    positions: int
    epsilon: float
    activation: str
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool
    input_bias: bool
    output_bias: bool
    mlp_bias: bool

    @classmethod
    def read(cls, fields: Mapping[str, Any], where: str) -> LlamaConfig:
        """Read config.json's fields; raise ModelFileError for a missing or senseless one."""
        r = ConfigReader(fields, where)
        kind, heads, hidden = (
            r.text("model_type"),
            r.size("num_attention_heads"),
            r.size("hidden_size"),
        )
        rope = r.group("rope_parameters", "rope_scaling")
        bias = r.flag("attention_bias", False)
        positions = r.size("max_position_embeddings", default=2048)
        _refuse_window(r, positions)
        config = cls(
            model_type=kind,
            vocabulary=r.size("vocab_size"),
            hidden=hidden,
            layers=r.size("num_hidden_layers"),
            heads=heads,
            key_heads=r.size("num_key_value_heads", default=heads),
            head_size=r.size("head_dim", default=max(hidden // heads, 1)),
            intermediate=r.size("intermediate_size"),
            positions=positions,
            epsilon=r.number("rms_norm_eps", default=1e-6),
            activation=r.text("hidden_act", default="silu"),
            rope_theta=r.number("rope_theta", default=rope.number("rope_theta", default=10000.0)),
            rope_scaling=RopeScaling.read(rope),
            tied=r.flag("tie_word_embeddings", False),
            input_bias=bias or kind == "qwen2",
            output_bias=bias,
            mlp_bias=r.flag("mlp_bias", False),
        )
        if heads % config.key_heads or config.head_size % 2:
            raise UnsupportedOpError(
                f"{where}: {heads} query heads over {config.key_heads} key heads of size "
                f"{config.head_size} do not make whole groups of even size"
            )
        return config

    def inverse_frequencies(self) -> np.ndarray:
        """Return the angle a pair turns per position, float32 [head_size / 2]."""
        exponents = np.arange(0, self.head_size, 2, dtype=np.float32) / np.float32(self.head_size)
        plain: np.ndarray = (1.0 / np.float32(self.rope_theta) ** exponents).astype(np.float32)
        scaling = self.rope_scaling
        if scaling is None:
            return plain
        slow: np.ndarray = plain / np.float32(scaling.factor)
        if scaling.kind == "linear":
            return slow
        # Llama 3: long waves are stretched, short ones kept, those between blended
        # (`_compute_llama3_parameters` of transformers).
        turns = scaling.original_positions * plain / np.float32(2 * math.pi)
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
        mixed: np.ndarray = ((1 - blend) * slow + blend * plain).astype(np.float32)
        return mixed


def _refuse_window(r: ConfigReader, positions: int) -> None:
    window = r.fields.get("sliding_window")
    used = r.fields.get("use_sliding_window", r.fields.get("model_type") == "mistral")
    if used and isinstance(window, int) and window < positions:
        raise UnsupportedOpError(
            f"{r.where}: sliding_window {window} below max_position_embeddings {positions} is not "
            "built natively; compile the PyTorch module instead"
        )


def _rope_table(config: LlamaConfig, context: int, function: str) -> np.ndarray:
    angles = np.arange(context, dtype=np.float32)[:, None] * config.inverse_frequencies()
    table = np.cos(angles.astype(np.float64)) if function == "cos" else np.sin(angles, dtype=float)
    result: np.ndarray = table.astype(np.float32)
    return result


class _Decoder:
    """Builds one graph."""

    def __init__(self, config: LlamaConfig, weights: Weights, dtype: DType, name: str) -> None:
        self.config, self.weights, self.dtype = config, weights, dtype
        self.b = GraphBuilder(name)

    def weight(self, name: str, *shape: int) -> Value:
        type = TensorType(shape, self.dtype)
        return self.b.parameter(name, type, self.weights.loader(name, type))

    def linear(self, x: Value, name: str, outputs: int, bias: bool) -> Value:
        weight = self.weight(f"{name}.weight", outputs, x.shape[-1])
        return self.b.linear(x, weight, self.weight(f"{name}.bias", outputs) if bias else None)

    def norm(self, x: Value, name: str) -> Value:
        weight = self.weight(f"{name}.weight", x.shape[-1])
        return self.b.rms_norm(x, weight, epsilon=self.config.epsilon)

    def angles(self, positions: Value, context: int) -> tuple[Value, Value]:
        """Cosine and sine of every position, float32 [batch, sequence, head_size / 2]."""
        type = TensorType((context, self.config.head_size // 2), float32)
        cos, sin = (
            self.b.parameter(
                f"rope.{f}",
                type,
                None
                if isinstance(self.weights, NoWeights)
                else partial(_rope_table, self.config, context, f),
            )
            for f in ("cos", "sin")
        )
        return self.b.take(cos, positions), self.b.take(sin, positions)

    def heads(self, x: Value, count: int, norm: str = "") -> Value:
        b = self.b
        split = b.reshape(x, *x.shape[:2], count, self.config.head_size)
        if norm and self.config.model_type == "qwen3":
            split = self.norm(split, norm)
        return b.permute(split, 0, 2, 1, 3)

    def projections(
        self, x: Value, prefix: str, angles: tuple[Value, Value]
    ) -> tuple[Value, Value, Value]:
        """Project to turned queries and keys and values, [batch, heads, sequence, head size]."""
        b, c = self.b, self.config

        def project(part: str, count: int, norm: str = "") -> Value:
            y = self.linear(x, f"{prefix}.{part}", count * c.head_size, c.input_bias)
            return self.heads(y, count, f"{prefix}.{norm}" if norm else "")

        q = b.rope(project("q_proj", c.heads, "q_norm"), *angles)
        k = b.rope(project("k_proj", c.key_heads, "k_norm"), *angles)
        return q, k, project("v_proj", c.key_heads)

    def attend(
        self,
        qkv: tuple[Value, Value, Value],
        caches: tuple[Value, Value],
        positions: Value,
        decoding: bool,
    ) -> tuple[Value, Value, Value]:
        """Attention and the new caches; a prompt sees itself, a decoded token the whole cache."""
        b, scale = self.b, 1 / math.sqrt(self.config.head_size)
        q, k, v = qkv
        key_cache = b.scatter(caches[0], k, positions, 2, batched=True)
        value_cache = b.scatter(caches[1], v, positions, 2, batched=True)
        if decoding:
            y = b.attention(q, key_cache, value_cache, scale=scale, positions=positions)
        else:
            y = b.attention(q, k, v, scale=scale, causal=True)
        return y, key_cache, value_cache

    def mlp(self, x: Value, prefix: str) -> Value:
        b, c = self.b, self.config
        gate = self.linear(x, f"{prefix}.gate_proj", c.intermediate, c.mlp_bias)
        up = self.linear(x, f"{prefix}.up_proj", c.intermediate, c.mlp_bias)
        product = b.mul(activation(b, c.activation, gate), up)
        return self.linear(product, f"{prefix}.down_proj", c.hidden, c.mlp_bias)

    def logits(self, x: Value, last_token: Value) -> Value:
        """Logits [batch, vocabulary] of the one selected token of each sequence."""
        b, c = self.b, self.config
        batch, length, hidden = x.shape
        starts = b.iota((batch,), 0)
        rows = b.add(last_token, b.mul(starts, length)) if batch > 1 else last_token
        chosen = b.take(b.reshape(x, batch * length, hidden), rows)
        chosen = self.norm(chosen, "model.norm")
        head = "model.embed_tokens" if c.tied else "lm_head"
        return b.linear(chosen, self.weight(f"{head}.weight", c.vocabulary, hidden))


def decoder_graph(
    config: LlamaConfig,
    weights: Weights,
    dtype: DType,
    shape: tuple[int, int, int],
    decoding: bool,
) -> Graph:
    """Build the decoder for `shape` = (batch, tokens, context).

    Inputs: input_ids and positions, int32 [batch, tokens]; last_token, int32 [batch]: which of
    the tokens gives the logits; key_cache.i and value_cache.i [batch, key heads, context, head
    size]. Outputs: logits [batch, vocabulary] and the caches, aliased to the inputs. Without
    `decoding` the prompt starts at position 0 and sees itself alone.
    """
    batch, tokens, context = shape
    _check_lengths(config, tokens, context)
    phase = "decode" if decoding else "prefill"
    d = _Decoder(
        config, weights, dtype, f"{config.model_type}_{phase}_b{batch}_t{tokens}_c{context}"
    )
    b, ids = d.b, TensorType((batch, tokens), int32)
    input_ids, positions = b.input("input_ids", ids), b.input("positions", ids)
    last_token = b.input("last_token", TensorType((batch,), int32))
    cache = TensorType((batch, config.key_heads, context, config.head_size), dtype)
    caches = [
        (b.input(f"key_cache.{i}", cache), b.input(f"value_cache.{i}", cache))
        for i in range(config.layers)
    ]
    with b.scope("embeddings"):
        x = b.take(
            d.weight("model.embed_tokens.weight", config.vocabulary, config.hidden), input_ids
        )
        angles = d.angles(positions, context)
    written = []
    for i, pair in enumerate(caches):
        x, keys, values = _layer(d, i, x, angles, pair, positions, decoding)
        written.append((keys, values))
    with b.scope("head"):
        b.output("logits", d.logits(x, last_token))
    for i, ((keys, values), (old_keys, old_values)) in enumerate(zip(written, caches, strict=True)):
        b.output(f"key_cache.{i}", keys, alias=old_keys)
        b.output(f"value_cache.{i}", values, alias=old_values)
    return b.finish()


def _layer(
    d: _Decoder,
    index: int,
    x: Value,
    angles: tuple[Value, Value],
    caches: tuple[Value, Value],
    positions: Value,
    decoding: bool,
) -> tuple[Value, Value, Value]:
    b, c, prefix = d.b, d.config, f"model.layers.{index}"
    with b.scope(prefix):
        with b.scope("attention"):
            normed = d.norm(x, f"{prefix}.input_layernorm")
            qkv = d.projections(normed, f"{prefix}.self_attn", angles)
            y, keys, values = d.attend(qkv, caches, positions, decoding)
            merged = b.reshape(b.permute(y, 0, 2, 1, 3), *x.shape[:2], c.heads * c.head_size)
            y = d.linear(merged, f"{prefix}.self_attn.o_proj", c.hidden, c.output_bias)
            x = b.add(x, y)
        with b.scope("mlp"):
            y = d.mlp(d.norm(x, f"{prefix}.post_attention_layernorm"), f"{prefix}.mlp")
            return b.add(x, y), keys, values


def _check_lengths(config: LlamaConfig, tokens: int, context: int) -> None:
    if context > config.positions:
        raise UsageError(
            f"a context of {context} tokens exceeds the model's max_position_embeddings of "
            f"{config.positions}"
        )
    if tokens > context:
        raise PromptTooLongError(f"{tokens} tokens do not fit into a context of {context}")
