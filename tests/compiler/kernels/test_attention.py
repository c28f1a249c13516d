"""Attention over more keys than a tile of scores holds."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import TensorType
from emuron.compiler.kernels import (
    attention,
    attention_masks,
    attention_rules,
    decode_attention,
)
from emuron.compiler.kernels.attention import seen_keys
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import float32, int32
from emuron.numerics.matmul import sums_in_order
from emuron.runtime.device import Device

TARGET = instance("trn2.3xlarge")


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
@pytest.mark.parametrize("given", ["causal", "positions", "mask"])
@pytest.mark.parametrize("sinks", [False, True])
def test_scores_computed_twice_give_the_same_bits(
    given: str, sinks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (attention, attention_masks, attention_rules, decode_attention):
        monkeypatch.setattr(module, "KEPT_KEYS", 512)
    for module in (attention, attention_rules):
        monkeypatch.setattr(module, "SEGMENT_KEYS", 1024)
    rng, keys = np.random.default_rng(3), 2300
    queries = 140 if given == "causal" else 2
    inputs = {
        name: rng.standard_normal((1, heads, length, 16)).astype(np.float32)
        for name, heads, length in (("q", 2, queries), ("k", 1, keys), ("v", 1, keys))
    }
    more: dict[str, object] = {"causal": given == "causal", "window": 1500 * (given != "mask")}
    if given == "positions":
        inputs["positions"] = np.array([[1999, -1]], np.int32)
    if given == "mask":
        inputs["mask"] = rng.standard_normal((1, 1, 2, keys)).astype(np.float32)
    if sinks:
        inputs["sinks"] = np.array([0.5, 9.0], np.float32)
    b = GraphBuilder("long")
    values = {
        n: b.input(n, TensorType(a.shape, int32 if a.dtype == np.int32 else float32))
        for n, a in inputs.items()
    }
    more |= {n: v for n, v in values.items() if n not in "qkv"}
    b.output("y", b.attention(*(values[n] for n in "qkv"), scale=0.3, **more))
    graph = b.finish()
    executable = compile_graph(graph, TARGET.chip.core, CompileOptions(Autocast(), strict=True))
    found = Device(TARGET).run(executable, inputs)["y"]
    np.testing.assert_array_equal(found, Evaluator(graph).run(inputs)["y"])


@pytest.mark.parametrize(
    ("rows", "window", "expected"),
    [((0, 128), 0, (0, 512)), ((512, 128), 0, (0, 1024)), ((1024, 128), 300, (512, 1536))],
)
def test_causal_rows_see_whole_blocks_of_keys(rows, window, expected) -> None:
    assert seen_keys(rows, 2048, 2048, window) == expected


def test_a_cache_of_32768_keys_fits_on_a_core() -> None:
    b = GraphBuilder("decode")
    q = b.input("q", TensorType((1, 8, 1, 128), "bfloat16"))
    k, v = (b.input(n, TensorType((1, 2, 32768, 128), "bfloat16")) for n in "kv")
    positions = b.input("positions", TensorType((1, 1), int32))
    b.output("y", b.attention(q, k, v, scale=0.1, positions=positions))
    executable = compile_graph(b.finish(), TARGET.chip.core, CompileOptions(strict=True))
    read_us = 2 * 2 * 32768 * 128 * 2 / 1e6  # at 1 TB/s, more than a core has
    assert Device(TARGET).time(executable).total_ps > read_us * 1e6
