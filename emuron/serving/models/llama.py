"""The Llama family (llama, mistral, qwen2, qwen3) over a block KV cache."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.compiler.evaluate import Evaluator, WeightCache
from emuron.compiler.frontends.hf import HFModel, load
from emuron.compiler.frontends.hf_llama import LlamaConfig
from emuron.compiler.frontends.weights import read_json
from emuron.compiler.ops import Autocast
from emuron.compiler.ops.context import NO_AUTOCAST
from emuron.errors import ModelFileError
from emuron.numerics.backend import Backend

Logits = npt.NDArray[np.float32]


def open_llama(folder: str | Path) -> HFModel:
    """Open a folder of the Llama family; raise ModelFileError when it holds something else."""
    model = load(folder)
    if not isinstance(model.config, LlamaConfig):
        raise ModelFileError(
            f"{folder}: a {model.fields.get('model_type')!r} model generates no text and cannot be "
            "served; use `emuron run` for it"
        )
    return model


def eos_token_ids(model: HFModel) -> tuple[int, ...]:
    """Return the tokens that end a text: generation_config.json's, else config.json's."""
    fields: Mapping[str, Any] = model.fields
    path = None if model.folder is None else model.folder / "generation_config.json"
    if path is not None and path.is_file():
        fields = {**fields, **read_json(path)}
    found = fields.get("eos_token_id")
    if found is None:
        return ()
    listed = tuple(found) if isinstance(found, list) else (found,)
    if not all(type(token_id) is int for token_id in listed):
        raise ModelFileError(f"{model.name}: eos_token_id must be a token id, found {found!r}")
    return listed


def kv_bytes_per_token(model: HFModel) -> int:
    """Return the bytes of one token's keys and values in all layers."""
    config = _config(model)
    return 2 * config.layers * config.key_heads * config.head_size * model.dtype.itemsize


class LlamaModel:
    """Evaluates the prefill and decode graphs, one sequence at a time (a `CausalModel`).

    Keys and values live in blocks [num_blocks, key heads, block_size, head size] of the model's
    dtype. A decode gathers its sequence's blocks into a contiguous cache of the context bucket.
    """

    def __init__(
        self,
        model: HFModel,
        num_blocks: int,
        block_size: int,
        *,
        backend: Backend | str = "numpy",
        autocast: Autocast = NO_AUTOCAST,
    ) -> None:
        """Make an empty cache; weights are read with the first evaluation."""
        config = _config(model)
        self.vocab_size = config.vocabulary
        self._model = model
        self._backend = backend
        self._autocast = autocast
        self._weights = WeightCache()
        self._evaluators: dict[tuple[str, int], Evaluator] = {}
        self._block_size = block_size
        self._heads = (config.key_heads, config.head_size)
        shape = (num_blocks, config.key_heads, block_size, config.head_size)
        names = [f"{part}_cache.{i}" for i in range(config.layers) for part in ("key", "value")]
        self._blocks = {name: np.zeros(shape, model.dtype.np) for name in names}

    def load(self) -> None:
        """Read the weights now, so that the first request does not wait for them."""
        self.prefill((0,), 1, (0,))
        self._evaluators.clear()

    def prefill(self, token_ids: Ordered[int], bucket: int, blocks: Ordered[int]) -> Logits:
        """Write the prompt's keys and values into `blocks`; return the last token's logits."""
        count = len(token_ids)
        ids = np.zeros((1, bucket), np.int32)
        ids[0, :count] = token_ids
        positions = np.arange(bucket, dtype=np.int32)[None]
        heads, size = self._heads
        empty = np.zeros((1, heads, bucket, size), self._model.dtype.np)
        caches = dict.fromkeys(self._blocks, empty)
        outputs = self._run("prefill", bucket, ids, positions, count - 1, caches)
        for name, store in self._blocks.items():
            for index, block in enumerate(blocks):
                first = index * self._block_size
                rows = outputs[name][0, :, first : min(first + self._block_size, count)]
                store[block, :, : rows.shape[1]] = rows
        return np.asarray(outputs["logits"][0], np.float32)

    def decode(self, token_id: int, position: int, context: int, blocks: Ordered[int]) -> Logits:
        """Append one token at `position`, reading `context` cache slots; return its logits."""
        ids = np.array([[token_id]], np.int32)
        positions = np.array([[position]], np.int32)
        caches = {name: self._gather(name, position, context, blocks) for name in self._blocks}
        outputs = self._run("decode", context, ids, positions, 0, caches)
        block, slot = blocks[position // self._block_size], position % self._block_size
        for name, store in self._blocks.items():
            store[block, :, slot] = outputs[name][0, :, position]
        return np.asarray(outputs["logits"][0], np.float32)

    def _gather(
        self, name: str, count: int, context: int, blocks: Ordered[int]
    ) -> npt.NDArray[Any]:
        """Return the first `count` tokens of a sequence as a cache of `context` tokens."""
        store = self._blocks[name]
        heads, size = self._heads
        cache = np.zeros((1, heads, context, size), store.dtype)
        used = list(blocks[: -(-count // self._block_size)])
        rows = store[used].transpose(1, 0, 2, 3).reshape(heads, -1, size)
        cache[0, :, :count] = rows[:, :count]
        return cache

    def _run(
        self,
        kind: str,
        size: int,
        ids: npt.NDArray[np.int32],
        positions: npt.NDArray[np.int32],
        last_token: int,
        caches: Mapping[str, npt.NDArray[Any]],
    ) -> dict[str, npt.NDArray[Any]]:
        inputs = {
            "input_ids": ids,
            "positions": positions,
            "last_token": np.array([last_token], np.int32),
            **caches,
        }
        return self._evaluator(kind, size).run(inputs)

    def _evaluator(self, kind: str, size: int) -> Evaluator:
        found = self._evaluators.get((kind, size))
        if found is None:
            build = self._model.prefill_graph if kind == "prefill" else self._model.decode_graph
            graph = build(1, size)
            found = Evaluator(graph, self._backend, self._autocast, self._weights)
            self._evaluators[kind, size] = found
        return found


def _config(model: HFModel) -> LlamaConfig:
    if not isinstance(model.config, LlamaConfig):
        raise ModelFileError(f"{model.name} is not of the Llama family")
    return model.config
