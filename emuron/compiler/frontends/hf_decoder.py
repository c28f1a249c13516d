"""What the native builders of decoders share: inputs, caches, attention and the token picked."""

from __future__ import annotations

import math
from typing import Protocol

from emuron.compiler.frontends.weights import Weights
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import PromptTooLongError, UsageError
from emuron.numerics.dtypes import DType, int32

Caches = tuple[Value, Value]
"""A layer's keys and values, [batch, key heads, context, head size]."""


class DecoderConfig(Protocol):
    """What the graph of any decoder is shaped by."""

    @property
    def model_type(self) -> str:
        """Family, as config.json names it."""

    @property
    def layers(self) -> int:
        """Number of layers."""

    @property
    def heads(self) -> int:
        """Query heads of a layer."""

    @property
    def key_heads(self) -> int:
        """Key and value heads of a layer."""

    @property
    def head_size(self) -> int:
        """Elements of a head."""

    @property
    def positions(self) -> int:
        """Longest context."""


class Decoder:
    """Builds one graph for `shape` = (batch, tokens, context); a family adds its layers.

    Inputs: input_ids and positions, int32 [batch, tokens]; last_token, int32 [batch]: which of
    the tokens gives the logits; key_cache.i and value_cache.i [batch, key heads, context, head
    size]. Outputs: logits [batch, vocabulary] and the caches, aliased to the inputs. Without
    `decoding` the prompt starts at position 0 and sees itself alone.
    """

    def __init__(
        self,
        shared: DecoderConfig,
        weights: Weights,
        dtype: DType,
        shape: tuple[int, int, int],
        decoding: bool,
    ) -> None:
        _check_lengths(shared, *shape[1:])
        self.shared, self.weights, self.dtype = shared, weights, dtype
        self.shape, self.decoding = shape, decoding
        batch, tokens, context = shape
        phase = "decode" if decoding else "prefill"
        self.b = GraphBuilder(f"{shared.model_type}_{phase}_b{batch}_t{tokens}_c{context}")

    def embed(self, input_ids: Value, positions: Value) -> Value:
        """Return the tokens' features [batch, tokens, hidden]."""
        raise NotImplementedError

    def layer(
        self, index: int, x: Value, caches: Caches, positions: Value
    ) -> tuple[Value, Value, Value]:
        """Return the features after a layer, and its new caches."""
        raise NotImplementedError

    def head(self, chosen: Value) -> Value:
        """Return the logits [batch, vocabulary] of features [batch, hidden]."""
        raise NotImplementedError

    def graph(self) -> Graph:
        """Build the graph."""
        b, c = self.b, self.shared
        batch, tokens, context = self.shape
        ids = TensorType((batch, tokens), int32)
        input_ids, positions = b.input("input_ids", ids), b.input("positions", ids)
        last_token = b.input("last_token", TensorType((batch,), int32))
        cache = TensorType((batch, c.key_heads, context, c.head_size), self.dtype)
        caches = [
            (b.input(f"key_cache.{i}", cache), b.input(f"value_cache.{i}", cache))
            for i in range(c.layers)
        ]
        with b.scope("embeddings"):
            x = self.embed(input_ids, positions)
        written = []
        for i, pair in enumerate(caches):
            x, keys, values = self.layer(i, x, pair, positions)
            written.append((keys, values))
        with b.scope("head"):
            b.output("logits", self.head(self._chosen(x, last_token)))
        for i, ((keys, values), (old_keys, old_values)) in enumerate(
            zip(written, caches, strict=True)
        ):
            b.output(f"key_cache.{i}", keys, alias=old_keys)
            b.output(f"value_cache.{i}", values, alias=old_values)
        return b.finish()

    def _chosen(self, x: Value, last_token: Value) -> Value:
        """Return the features [batch, hidden] of the one selected token of each sequence."""
        b = self.b
        batch, length, hidden = x.shape
        starts = b.iota((batch,), 0)
        rows = b.add(last_token, b.mul(starts, length)) if batch > 1 else last_token
        return b.take(b.reshape(x, batch * length, hidden), rows)

    def weight(self, name: str, *shape: int) -> Value:
        """Return the weight `name`."""
        type = TensorType(shape, self.dtype)
        return self.b.parameter(name, type, self.weights.loader(name, type))

    def heads(self, x: Value, count: int) -> Value:
        """Split features [batch, tokens, count · head size] into heads, tokens behind them."""
        return self.by_head(self.b.reshape(x, *x.shape[:2], count, self.shared.head_size))

    def by_head(self, split: Value) -> Value:
        """Put the heads of [batch, tokens, heads, head size] before the tokens."""
        return self.b.permute(split, 0, 2, 1, 3)

    def attend(
        self, qkv: tuple[Value, Value, Value], caches: Caches, positions: Value
    ) -> tuple[Value, Value, Value]:
        """Attention, heads merged, and the new caches.

        A prompt sees itself, a decoded token the whole cache.
        """
        b, c = self.b, self.shared
        scale = 1 / math.sqrt(c.head_size)
        q, k, v = qkv
        key_cache = b.scatter(caches[0], k, positions, 2, batched=True)
        value_cache = b.scatter(caches[1], v, positions, 2, batched=True)
        if self.decoding:
            y = b.attention(q, key_cache, value_cache, scale=scale, positions=positions)
        else:
            y = b.attention(q, k, v, scale=scale, causal=True)
        batch, tokens = self.shape[:2]
        merged = b.reshape(b.permute(y, 0, 2, 1, 3), batch, tokens, c.heads * c.head_size)
        return merged, key_cache, value_cache


def _check_lengths(config: DecoderConfig, tokens: int, context: int) -> None:
    if context > config.positions:
        raise UsageError(
            f"a context of {context} tokens exceeds the model's max_position_embeddings of "
            f"{config.positions}"
        )
    if tokens > context:
        raise PromptTooLongError(f"{tokens} tokens do not fit into a context of {context}")
