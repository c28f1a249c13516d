"""Graphs of decoders of the GPT family: gpt2 (and GPT-3 shapes), opt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.compiler.frontends.config import ConfigReader
from emuron.compiler.frontends.hf_bert import activation
from emuron.compiler.frontends.hf_decoder import Caches, Decoder
from emuron.compiler.frontends.weights import Loader, Weights
from emuron.compiler.graph import TensorType, Value
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of one family's weights; those of a layer are relative to `layer`."""

    word: str
    position: str
    layer: str
    attention_norm: str
    mlp_norm: str
    output: str
    up: str
    down: str
    last_norm: str
    query: str = ""  # "" where queries, keys and values are one weight, `together`
    key: str = ""
    value: str = ""
    together: str = ""
    transposed: bool = False  # weights lie as [inputs, outputs]
    first_position: int = 0  # of the table of positions


_NAMES: Mapping[str, _Names] = MappingProxyType(
    {
        "gpt2": _Names(
            word="transformer.wte",
            position="transformer.wpe",
            layer="transformer.h",
            attention_norm="ln_1",
            mlp_norm="ln_2",
            together="attn.c_attn",
            output="attn.c_proj",
            up="mlp.c_fc",
            down="mlp.c_proj",
            last_norm="transformer.ln_f",
            transposed=True,
        ),
        "opt": _Names(
            word="model.decoder.embed_tokens",
            position="model.decoder.embed_positions",
            layer="model.decoder.layers",
            attention_norm="self_attn_layer_norm",
            mlp_norm="final_layer_norm",
            query="self_attn.q_proj",
            key="self_attn.k_proj",
            value="self_attn.v_proj",
            output="self_attn.out_proj",
            up="fc1",
            down="fc2",
            last_norm="model.decoder.final_layer_norm",
            first_position=2,
        ),
    }
)

MODEL_TYPES = tuple(_NAMES)
"""Values of config.json's `model_type` that this module builds."""

_OPT_EPSILON = 1e-5
"""torch.nn.LayerNorm's default, which OPT uses."""


@dataclass(frozen=True, slots=True)
class GptConfig:
    """The fields of a decoder's config.json that shape its graph."""

    model_type: str
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    epsilon: float
    activation: str
    tied: bool

    @classmethod
    def read(cls, fields: Mapping[str, Any], where: str) -> GptConfig:
        """Read config.json's fields; raise ModelFileError for a missing or senseless one."""
        r = ConfigReader(fields, where)
        kind = r.text("model_type")
        hidden = r.size("n_embd", "hidden_size")
        heads = r.size("n_head", "num_attention_heads")
        _refuse_variants(r, hidden)
        if hidden % heads:
            raise UnsupportedOpError(f"{where}: {hidden} features do not divide over {heads} heads")
        return cls(
            model_type=kind,
            vocabulary=r.size("vocab_size"),
            hidden=hidden,
            layers=r.size("n_layer", "num_hidden_layers"),
            heads=heads,
            intermediate=r.size("n_inner", "ffn_dim", default=4 * hidden),
            positions=r.size("n_positions", "max_position_embeddings"),
            epsilon=r.number("layer_norm_epsilon", default=_OPT_EPSILON),
            activation=r.text("activation_function", default="gelu_new"),
            tied=r.flag("tie_word_embeddings", True),
        )

    @property
    def key_heads(self) -> int:
        """Key heads: every query head has its own."""
        return self.heads

    @property
    def head_size(self) -> int:
        """Elements of a head."""
        return self.hidden // self.heads


def _refuse_variants(r: ConfigReader, hidden: int) -> None:
    projected = r.fields.get("word_embed_proj_dim", hidden) != hidden
    scaled = r.fields.get("scale_attn_by_inverse_layer_idx", False)
    if projected or scaled or not r.flag("do_layer_norm_before", True):
        raise UnsupportedOpError(
            f"{r.where}: projected embeddings, norms after the layer and attention scaled by the "
            "layer's number are not built natively; compile the PyTorch module instead"
        )


@dataclass(frozen=True, slots=True)
class _Columns:
    """Reads columns of a weight that lies as [inputs, outputs], or of its bias, as rows."""

    load: Loader
    start: int
    stop: int

    def __call__(self) -> np.ndarray:
        found = self.load()
        return found[..., self.start : self.stop].T


class GptDecoder(Decoder):
    """Builds one graph of the GPT family."""

    def __init__(
        self,
        config: GptConfig,
        weights: Weights,
        dtype: DType,
        shape: tuple[int, int, int],
        decoding: bool,
    ) -> None:
        super().__init__(config, weights, dtype, shape, decoding)
        self.config, self.names = config, _NAMES[config.model_type]

    def embed(self, input_ids: Value, positions: Value) -> Value:
        """Return the sum of the tokens' and the positions' features."""
        b, c, names = self.b, self.config, self.names
        first = names.first_position
        table = self.weight(f"{names.position}.weight", c.positions + first, c.hidden)
        places = b.add(positions, first) if first else positions
        word = self.weight(f"{names.word}.weight", c.vocabulary, c.hidden)
        return b.add(b.take(word, input_ids), b.take(table, places))

    def layer(
        self, index: int, x: Value, caches: Caches, positions: Value
    ) -> tuple[Value, Value, Value]:
        """Return the features after attention and MLP, and the new caches."""
        b, c, names, prefix = self.b, self.config, self.names, f"{self.names.layer}.{index}"
        with b.scope(prefix):
            with b.scope("attention"):
                normed = self.norm(x, f"{prefix}.{names.attention_norm}")
                merged, keys, values = self.attend(
                    self._projections(normed, prefix), caches, positions
                )
                x = b.add(x, self.linear(merged, f"{prefix}.{names.output}", c.hidden))
            with b.scope("mlp"):
                normed = self.norm(x, f"{prefix}.{names.mlp_norm}")
                hidden = self.linear(normed, f"{prefix}.{names.up}", c.intermediate)
                y = activation(b, c.activation, hidden)
                return (
                    b.add(x, self.linear(y, f"{prefix}.{names.down}", c.hidden)),
                    keys,
                    values,
                )

    def head(self, chosen: Value) -> Value:
        """Return the logits after the last norm."""
        c, names = self.config, self.names
        name = names.word if c.tied else "lm_head"
        weight = self.weight(f"{name}.weight", c.vocabulary, c.hidden)
        return self.b.linear(self.norm(chosen, names.last_norm), weight)

    def norm(self, x: Value, name: str) -> Value:
        """Append a layer norm of the model."""
        weight, bias = (self.weight(f"{name}.{p}", x.shape[-1]) for p in ("weight", "bias"))
        return self.b.layer_norm(x, weight, bias, epsilon=self.config.epsilon)

    def linear(
        self, x: Value, name: str, outputs: int, part: int = 0, parts: int = 1, called: str = ""
    ) -> Value:
        """Append a linear layer: part number `part` of `parts` that the weight has together."""
        weight, bias = (
            self._part(f"{name}.{kind}", called or name, shape, (part, parts), kind)
            for kind, shape in (("weight", (outputs, x.shape[-1])), ("bias", (outputs,)))
        )
        return self.b.linear(x, weight, bias)

    def _part(
        self, name: str, called: str, shape: tuple[int, ...], part: tuple[int, int], kind: str
    ) -> Value:
        """Return a weight [outputs, inputs] or bias, out of one that lies as [inputs, outputs]."""
        if not self.names.transposed:
            return self.weight(name, *shape)
        outputs, (number, parts) = shape[0], part
        stored = TensorType((*shape[1:], outputs * parts), self.dtype)
        loader = self.weights.loader(name, stored)
        if loader is not None:
            loader = _Columns(loader, number * outputs, (number + 1) * outputs)
        return self.b.parameter(f"{called}.{kind}", TensorType(shape, self.dtype), loader)

    def _projections(self, x: Value, prefix: str) -> tuple[Value, Value, Value]:
        """Project to queries, keys and values, [batch, heads, tokens, head size]."""
        c, names = self.config, self.names
        made = []
        for number, own in enumerate((names.query, names.key, names.value)):
            if own:
                y = self.linear(x, f"{prefix}.{own}", c.hidden)
            else:
                name = f"{prefix}.{names.together}"
                y = self.linear(x, name, c.hidden, number, 3, f"{name}.{'qkv'[number]}")
            made.append(self.heads(y, c.heads))
        return made[0], made[1], made[2]
