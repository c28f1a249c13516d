"""What one of the cores that serve a model holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from emuron.compiler.frontends.zoo import open_model
from emuron.errors import CapacityError, UsageError
from emuron.hardware.catalog import instance
from emuron.serving.models.llama import kv_bytes_per_token, open_llama
from emuron.serving.rank_memory import RankMemory


def test_one_core_holds_all_weights_and_all_keys(tiny_llama: Path) -> None:
    model = open_llama(tiny_llama)
    memory = RankMemory(instance("inf2.xlarge"), model, 1)
    assert memory.kv_bytes_per_token == kv_bytes_per_token(model)
    assert memory.weight_bytes == model.decode_graph(1, 1).parameter_bytes


def test_cores_share_weights_and_keep_copies_of_key_heads() -> None:
    model = open_model("llama-3-8b", weights=False)
    eight, sixteen = (RankMemory(instance("inf2.48xlarge"), model, tp) for tp in (8, 16))
    assert 15e9 / 8 < eight.weight_bytes < 17e9 / 8
    # 8 key heads of 128: one on each of 8 cores, and each twice on 16.
    assert eight.kv_bytes_per_token == 2 * 32 * 128 * 2
    assert sixteen.kv_bytes_per_token == eight.kv_bytes_per_token


def test_what_the_weights_and_the_runtime_leave_is_for_the_cache() -> None:
    model = open_model("llama-3-8b", weights=False)
    inf2 = instance("inf2.48xlarge")
    memory = RankMemory(inf2, model, 8)
    left = 16 * 2**30 - inf2.chip.runtime_reserved_bytes - memory.weight_bytes
    assert memory.kv_budget_bytes == left


def test_more_cores_than_there_are_are_refused(tiny_llama: Path) -> None:
    with pytest.raises(UsageError, match=r"between 1 and the 2 logical cores of inf2.xlarge"):
        RankMemory(instance("inf2.xlarge"), open_llama(tiny_llama), 3)


def test_weights_beyond_the_memory_are_refused() -> None:
    model = open_model("llama-2-70b", weights=False)
    with pytest.raises(CapacityError, match=r"raise --tp"):
        _ = RankMemory(instance("inf2.xlarge"), replace(model), 2).kv_budget_bytes
