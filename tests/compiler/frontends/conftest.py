"""Tiny models of both families, saved by transformers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Save = Callable[..., tuple[Any, Path]]


@pytest.fixture
def save_model(tmp_path: Path) -> Save:
    """Make a transformers model of lively random weights and save it; return both."""

    def save(kind: str, dtype: str = "float32", shard_size: str = "5GB", **fields: Any) -> Any:
        torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        torch.set_num_threads(1)
        transformers.utils.logging.disable_progress_bar()
        family = re.sub("(ForCausalLM|ForMaskedLM|Model)$", "", kind)
        config = getattr(transformers, f"{family}Config")(**fields)
        model = getattr(transformers, kind)(config).eval()
        for parameter in model.parameters():
            noise = torch.randn_like(parameter) * 0.15
            parameter.data = noise if parameter.ndim > 1 else parameter.data + noise
        model = model.to(getattr(torch, dtype))
        model.save_pretrained(tmp_path, max_shard_size=shard_size)
        return model, tmp_path

    return save
