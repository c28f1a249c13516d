"""Whole models in operator fidelity against native PyTorch float32, and the time to compile them.

Prints processor seconds, one thread: BERT-base, ResNet-50 and one decode step of a Llama of a
billion parameters, each by itself in one process; then compilation and timing of BERT-base and
ResNet-50 without data. Run: python benchmarks/models.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    StaticCache,
)

from emuron.cli.model_options import random_inputs
from emuron.compiler.compile import compile_model
from emuron.compiler.frontends import hf
from emuron.compiler.frontends.zoo import open_model

LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 32000,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
CONTEXT = 256
GOALS = {"BERT-base, 128 tokens": 1.25, "ResNet-50, 1 image": 1.25, "Llama of 1B, 1 token": 2.0}
COMPILE_GOALS_S = {"bert-base-uncased": 10.0, "resnet50": 20.0}


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Return the median processor time of `work`, after one run to warm up."""
    work()
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def ours(model: object, **options: object) -> float:
    """Return the seconds of one inference with the chip's numerics on the torch back end."""
    compiled = compile_model(model, on="inf2.xlarge", **options)  # type: ignore[arg-type]
    inputs = random_inputs(compiled.graph, 0)
    return seconds(lambda: compiled.run(inputs, backend="torch"))


def bert() -> tuple[float, float]:
    """Return the seconds of PyTorch and ours for BERT-base on 128 tokens."""
    native = BertModel(BertConfig()).eval()
    ids = torch.randint(0, 30000, (1, 128))
    with torch.no_grad():
        base = seconds(lambda: native(ids))
    return base, ours(open_model("bert-base-uncased"), sequence=128)


def resnet() -> tuple[float, float]:
    """Return the seconds of PyTorch and ours for ResNet-50 on one image."""
    native = ResNetForImageClassification(ResNetConfig()).eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        base = seconds(lambda: native(image))
    return base, ours(open_model("resnet50"))


def llama() -> tuple[float, float]:
    """Return the seconds of PyTorch and ours for a decode step with a full-length cache."""
    config = LlamaConfig(**LLAMA)
    native = LlamaForCausalLM(config).eval()
    cache = StaticCache(config=config, max_cache_len=CONTEXT)
    token, place = torch.zeros(1, 1, dtype=torch.long), torch.tensor([[CONTEXT - 1]])
    with torch.no_grad():
        base = seconds(lambda: native(token, position_ids=place, cache=cache))
    model = hf.from_config(LLAMA, name="llama-1b", seed=0)
    return base, ours(model, sequence=CONTEXT, task="decode")


def compile_seconds(name: str) -> float:
    """Return the seconds to compile a zoo model for batch 1 and to time it, without data."""
    start = time.process_time()
    _ = compile_model(open_model(name, weights=False), on="inf2.xlarge").timing
    return time.process_time() - start


def main() -> None:
    """Print a line for each model: seconds, ratio and goal."""
    torch.set_num_threads(1)
    runs: Mapping[str, Callable[[], tuple[float, float]]] = {
        "BERT-base, 128 tokens": bert,
        "ResNet-50, 1 image": resnet,
        "Llama of 1B, 1 token": llama,
    }
    print(f"{'operator fidelity':<24}{'native ms':>10}{'ours ms':>10}{'ratio':>8}{'goal':>7}")
    for name, run in runs.items():
        base, own = run()
        goal = GOALS[name]
        print(f"{name:<24}{base * 1e3:>10.0f}{own * 1e3:>10.0f}{own / base:>8.2f}{goal:>7.2f}")
    print(f"{'compile and time':<24}{'s':>10}{'goal':>10}")
    for name, goal in COMPILE_GOALS_S.items():
        print(f"{name:<24}{compile_seconds(name):>10.1f}{goal:>10.0f}")


if __name__ == "__main__":
    main()
