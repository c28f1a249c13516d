"""Modules around modules: what a compiled program computes where a class's `forward` does more."""

from __future__ import annotations

import inspect
from typing import Any

from emuron.errors import missing_extra

try:
    import torch
    from transformers.cache_utils import (
        Cache,
        EncoderDecoderCache,
        LinearAttentionLayer,
        StaticLayer,
    )
except ImportError as error:
    raise missing_extra(error, "Decoding with a model of transformers") or error from error


class _Around(torch.nn.Module):  # type: ignore[misc]
    """Holds the module that it calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model


class _CacheLayer(StaticLayer):  # type: ignore[misc]
    """Keys and values of one layer in tensors that the caller owns and that are written in place.

    Without `positions` they are complete, and only read.
    """

    def __init__(self, keys: Any, values: Any, positions: Any = None) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values, self.positions = keys, values, positions
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **options: Any) -> Any:
        """Write the new tokens' keys and values at their positions; return all."""
        self.keys.index_copy_(2, self.positions, key_states)
        self.values.index_copy_(2, self.positions, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> Any:
        """Return how many tokens are held: those before the first new one."""
        return self.keys.shape[2] if self.positions is None else self.positions[0]


def _cache(keys: list[Any], values: list[Any], positions: Any = None) -> Any:
    layers = [_CacheLayer(k, v, positions) for k, v in zip(keys, values, strict=True)]
    return Cache(layers=layers)


def _arguments(module: Any, cache: Any, positions: Any, context: int) -> dict[str, Any]:
    """Return what a module is told of its cache, under the names of its version of transformers.

    A token sees the places up to its own: bool [1, 1, tokens, context].
    """
    known = inspect.signature(module.forward).parameters
    visible = (torch.arange(context) <= positions[:, None])[None, None]
    arguments = {
        "attention_mask": visible,
        "position_ids": positions[None],
        "cache" if "cache" in known else "past_key_values": cache,
        "use_cache": True,
    }
    return {k: v for k, v in arguments.items() if k in known}


class Step(_Around):
    """One step of a causal model: tokens at `positions`, caches [batch, heads, context, size].

    The caches are overwritten; a token sees those at its own and earlier positions.
    """

    def forward(self, input_ids: Any, positions: Any, keys: list[Any], values: list[Any]) -> Any:
        """Return the logits of every new token."""
        cache = _cache(keys, values, positions)
        options = _arguments(self.model, cache, positions, keys[0].shape[2])
        return self.model(input_ids=input_ids, **options).logits


class CrossStep(_Around):
    """One step of an encoder-decoder: `Step` with the keys and values of what the encoder read."""

    def forward(
        self,
        input_ids: Any,
        positions: Any,
        keys: list[Any],
        values: list[Any],
        encoder_keys: list[Any],
        encoder_values: list[Any],
    ) -> Any:
        """Return the logits of every new token."""
        cache = EncoderDecoderCache(
            _cache(keys, values, positions), _cache(encoder_keys, encoder_values)
        )
        decoder = self.model.get_decoder()
        read = encoder_keys[0]
        # The layers look at this for its presence alone: the keys it would give are in the cache.
        states = torch.zeros(read.shape[0], read.shape[2], self.model.config.d_model)
        hidden = decoder(
            input_ids=input_ids,
            encoder_hidden_states=states.to(read.dtype),
            **_arguments(decoder, cache, positions, keys[0].shape[2]),
        ).last_hidden_state
        return self.model.get_output_embeddings()(hidden)


class StateStep(_Around):
    """One step of a state-space model, whose windows of the convolution and states are written."""

    def forward(self, input_ids: Any, windows: list[Any], states: list[Any]) -> Any:
        """Return the logits of the new token."""
        layers = []
        for window, state in zip(windows, states, strict=True):
            layer = LinearAttentionLayer()
            layer.conv_states[0], layer.recurrent_states[0] = window, state
            layer.conv_kernel_size[0] = window.shape[-1]
            for flags in (
                layer.is_conv_states_initialized,
                layer.is_recurrent_states_initialized,
                layer.has_previous_state,
            ):
                flags[0] = True
            layers.append(layer)
        known = inspect.signature(self.model.forward).parameters
        name = "cache" if "cache" in known else "cache_params"
        return self.model(input_ids, use_cache=True, **{name: Cache(layers=layers)}).logits


class Encoder(_Around):
    """The encoder of an encoder-decoder."""

    def forward(self, **inputs: Any) -> Any:
        """Return what the decoder reads."""
        return self.model.get_encoder()(**inputs).last_hidden_state


class Decode(_Around):
    """The decoder of an autoencoder."""

    def forward(self, latents: Any) -> Any:
        """Return images from latents."""
        return self.model.decode(latents).sample


class Autoencoder(_Around):
    """Perceiver's autoencoder of video, sound and label, decoded whole."""

    def forward(self, image: Any, audio: Any, label: Any) -> Any:
        """Return the reconstructions."""
        samples = audio.shape[1] // self.model.config.samples_per_patch
        points = {
            "image": torch.arange(image.shape[1] * image.shape[3] * image.shape[4]),
            "audio": torch.arange(samples),
            "label": None,
        }
        inputs = {"image": image, "audio": audio, "label": label}
        return self.model(inputs=inputs, subsampled_output_points=points).logits
