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
from emuron.compiler.frontends.hf_decoder import Caches, Decoder
from emuron.compiler.frontends.weights import NoWeights, Weights
from emuron.compiler.graph import TensorType, Value
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, float32

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


class LlamaDecoder(Decoder):
    """Builds one graph of the Llama family."""

    def __init__(
        self,
        config: LlamaConfig,
        weights: Weights,
        dtype: DType,
        shape: tuple[int, int, int],
        decoding: bool,
    ) -> None:
        super().__init__(config, weights, dtype, shape, decoding)
        self.config = config
        self.angles: tuple[Value, Value] | None = None

    def embed(self, input_ids: Value, positions: Value) -> Value:
        """Return the tokens' features; look up the angles of their positions."""
        c = self.config
        x = self.b.take(self.weight("model.embed_tokens.weight", c.vocabulary, c.hidden), input_ids)
        self.angles = self._angles(positions)
        return x

    def layer(
        self, index: int, x: Value, caches: Caches, positions: Value
    ) -> tuple[Value, Value, Value]:
        """Return the features after attention and gated MLP, and the new caches."""
        b, c, prefix = self.b, self.config, f"model.layers.{index}"
        with b.scope(prefix):
            with b.scope("attention"):
                normed = self.norm(x, f"{prefix}.input_layernorm")
                qkv = self.projections(normed, f"{prefix}.self_attn")
                merged, keys, values = self.attend(qkv, caches, positions)
                y = self.linear(merged, f"{prefix}.self_attn.o_proj", c.hidden, c.output_bias)
                x = b.add(x, y)
            with b.scope("mlp"):
                y = self.mlp(self.norm(x, f"{prefix}.post_attention_layernorm"), f"{prefix}.mlp")
                return b.add(x, y), keys, values

    def head(self, chosen: Value) -> Value:
        """Return the logits after the last norm."""
        c = self.config
        name = "model.embed_tokens" if c.tied else "lm_head"
        weight = self.weight(f"{name}.weight", c.vocabulary, c.hidden)
        return self.b.linear(self.norm(chosen, "model.norm"), weight)

    def linear(self, x: Value, name: str, outputs: int, bias: bool) -> Value:
        """Append a linear layer of the model."""
        weight = self.weight(f"{name}.weight", outputs, x.shape[-1])
        return self.b.linear(x, weight, self.weight(f"{name}.bias", outputs) if bias else None)

    def norm(self, x: Value, name: str) -> Value:
        """Append an RMS norm of the model."""
        weight = self.weight(f"{name}.weight", x.shape[-1])
        return self.b.rms_norm(x, weight, epsilon=self.config.epsilon)

    def projections(self, x: Value, prefix: str) -> tuple[Value, Value, Value]:
        """Project to turned queries and keys and values, [batch, heads, sequence, head size]."""
        b, c, angles = self.b, self.config, self.angles
        assert angles is not None

        def project(part: str, count: int, norm: str = "") -> Value:
            y = self.linear(x, f"{prefix}.{part}", count * c.head_size, c.input_bias)
            if not norm or c.model_type != "qwen3":
                return self.heads(y, count)
            split = b.reshape(y, *y.shape[:2], count, c.head_size)
            return self.by_head(self.norm(split, f"{prefix}.{norm}"))

        q = b.rope(project("q_proj", c.heads, "q_norm"), *angles)
        k = b.rope(project("k_proj", c.key_heads, "k_norm"), *angles)
        return q, k, project("v_proj", c.key_heads)

    def mlp(self, x: Value, prefix: str) -> Value:
        """Append the gated MLP."""
        b, c = self.b, self.config
        gate = self.linear(x, f"{prefix}.gate_proj", c.intermediate, c.mlp_bias)
        up = self.linear(x, f"{prefix}.up_proj", c.intermediate, c.mlp_bias)
        product = b.mul(activation(b, c.activation, gate), up)
        return self.linear(product, f"{prefix}.down_proj", c.hidden, c.mlp_bias)

    def _angles(self, positions: Value) -> tuple[Value, Value]:
        """Cosine and sine of every position, float32 [batch, sequence, head_size / 2]."""
        context = self.shape[2]
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
