"""A model that keeps its memory in cache blocks, and engines over it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.serving.engine import LLMEngine
from emuron.serving.runner import ModelTokenSource, SyntheticTokenSource
from emuron.serving.scheduler import SchedulerConfig
from emuron.serving.step_timer import ModelStepTimer

EXAMPLES = Path(__file__).parents[2] / "examples"


class HistoryModel:
    """Logits are a hash of all tokens so far, read back from the blocks they were written to."""

    def __init__(self, num_blocks: int, block_size: int, vocab_size: int = 64) -> None:
        self.vocab_size = vocab_size
        self._size = block_size
        self._store = np.full(num_blocks * block_size, -1, np.int64)

    def prefill(self, token_ids: Sequence[int], bucket: int, blocks: Sequence[int]) -> np.ndarray:
        assert len(token_ids) <= bucket
        for position, token_id in enumerate(token_ids):
            self._write(position, token_id, blocks)
        return self._logits(len(token_ids), blocks)

    def decode(
        self, token_id: int, position: int, context: int, blocks: Sequence[int]
    ) -> np.ndarray:
        assert position < context
        self._write(position, token_id, blocks)
        return self._logits(position + 1, blocks)

    def _slot(self, position: int, blocks: Sequence[int]) -> int:
        return blocks[position // self._size] * self._size + position % self._size

    def _write(self, position: int, token_id: int, blocks: Sequence[int]) -> None:
        self._store[self._slot(position, blocks)] = token_id

    def _logits(self, count: int, blocks: Sequence[int]) -> np.ndarray:
        history = [int(self._store[self._slot(i, blocks)]) for i in range(count)]
        return np.random.default_rng(history).normal(0, 2, self.vocab_size).astype(np.float32)


def linear_time(kind: str, batch: int, tokens: int, context: int) -> float:
    """Seconds that differ for every compiled shape."""
    return 1e-3 + 1e-5 * tokens + 1e-4 * batch + 1e-7 * context


@pytest.fixture(scope="session")
def history_model() -> type[HistoryModel]:
    return HistoryModel


@pytest.fixture
def history_engine() -> Callable[..., LLMEngine]:
    def make(seed: int = 0, eos_token_ids: Sequence[int] = (), **limits: int) -> LLMEngine:
        config = SchedulerConfig(**{"max_model_len": 256, "block_size": 4, **limits})
        model = HistoryModel(config.total_blocks, config.block_size)
        source = ModelTokenSource(model, config.resolved_buckets.context, eos_token_ids)
        timer = ModelStepTimer(linear_time)
        return LLMEngine(config, source, timer, eos_token_ids=eos_token_ids, seed=seed)

    return make


@pytest.fixture
def synthetic_engine() -> Callable[..., LLMEngine]:
    def make(max_steps: int = 1 << 30, **limits: int) -> LLMEngine:
        config = SchedulerConfig(**limits)
        source = SyntheticTokenSource(max_steps=max_steps)
        return LLMEngine(config, source, ModelStepTimer(linear_time))

    return make


@pytest.fixture(scope="session")
def make_tiny_llama() -> ModuleType:
    """The example script as a module."""
    spec = importlib.util.spec_from_file_location(
        "make_tiny_llama", EXAMPLES / "make_tiny_llama.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_llama(make_tiny_llama: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that examples/make_tiny_llama.py writes."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    make_tiny_llama.write_model(folder, make_tiny_llama.parse_arguments([str(folder)]))
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.open(tiny_llama)
