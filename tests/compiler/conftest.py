"""Small models of both families with random weights, and inputs for their graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from emuron.compiler.frontends.hf import HFModel, from_config
from emuron.compiler.graph import Graph
from emuron.numerics.rounding import round_to

BERT = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,
    "vocab_size": 48,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}


@pytest.fixture(scope="session")
def bert() -> Callable[..., HFModel]:
    """Make a BERT of 64 features; fields of its config may be given."""
    return lambda **fields: from_config({**BERT, **fields}, name="bert", seed=0)


@pytest.fixture(scope="session")
def llama() -> Callable[..., HFModel]:
    """Make a Llama of 64 features; fields of its config may be given."""
    return lambda **fields: from_config({**LLAMA, **fields}, name="llama", seed=0)


@pytest.fixture(scope="session")
def inputs_of() -> Callable[..., dict[str, np.ndarray]]:
    """Make inputs of a model's graph; `start` is the position of a decoder's first token."""

    def make(graph: Graph, start: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
        return {v.name: _input(v, start, np.random.default_rng(seed)) for v in graph.inputs}

    return make


def _input(value: Any, start: int, random: np.random.Generator) -> np.ndarray:
    shape = value.shape
    if value.name == "input_ids":
        return random.integers(0, 48, shape).astype(np.int32)
    if value.name == "positions":
        return np.tile(np.arange(start, start + shape[1], dtype=np.int32), (shape[0], 1))
    if value.name == "attention_mask":
        mask = np.ones(shape, np.int32)
        mask[:, shape[1] - 3 :] = 0
        return mask
    if value.type.dtype.kind == "int":
        return np.zeros(shape, np.int32)
    return round_to(random.normal(size=shape).astype(np.float32), value.type.dtype)
