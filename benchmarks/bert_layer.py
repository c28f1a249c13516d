"""One BERT-base encoder layer in both fidelities against native PyTorch float32, one thread.

Prints processor seconds (median) and the ratio to PyTorch for sequence lengths 512, 128 and 16.
Run: python benchmarks/bert_layer.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import BertConfig, BertModel

from emuron.compiler.compile import compile_model
from emuron.compiler.frontends import hf

FIELDS = {
    "model_type": "bert",
    "hidden_size": 768,
    "num_hidden_layers": 1,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
GOALS = {512: (1.25, 1.50), 128: (1.25, 1.60), 16: (1.25, 3.50)}  # core_performance.md §6


def seconds(work: Callable[[], object], times: int = 7) -> float:
    """Return the median processor time of `work`, after one run to warm up."""
    work()
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def native(sequence: int) -> float:
    """Return the seconds of PyTorch's own layer (embeddings included, as in ours)."""
    model = BertModel(BertConfig(**FIELDS), add_pooling_layer=False).eval()
    ids = torch.randint(0, 1000, (1, sequence))
    with torch.no_grad():
        return seconds(lambda: model(ids))


def ours(sequence: int, fidelity: str, backend: str) -> float:
    """Return the seconds of the layer with the chip's numerics (products in bfloat16)."""
    model = hf.from_config(FIELDS, name="layer", seed=0)
    compiled = compile_model(model, on="inf2.xlarge", sequence=sequence)
    shape = (1, sequence)
    inputs = {
        "input_ids": np.random.default_rng(0).integers(0, 1000, shape).astype(np.int32),
        "attention_mask": np.ones(shape, np.int32),
        "token_type_ids": np.zeros(shape, np.int32),
    }
    return seconds(lambda: compiled.run(inputs, fidelity=fidelity, backend=backend))


def main() -> None:
    """Print a line for each length, fidelity and back end."""
    torch.set_num_threads(1)
    print("one BERT-base layer, batch 1, one thread, processor time")
    print(f"{'tokens':>6}  {'fidelity':<12}{'back end':<10}{'ms':>8}{'ratio':>8}{'goal':>7}")
    for sequence, (operator, instruction) in GOALS.items():
        base = native(sequence)
        print(f"{sequence:>6}  {'native':<12}{'torch':<10}{base * 1e3:>8.1f}{1:>8.2f}")
        for fidelity, backend, goal in (
            ("operator", "torch", operator),
            ("operator", "numpy", operator),
            ("instruction", "numpy", instruction),
        ):
            spent = ours(sequence, fidelity, backend)
            line = f"{sequence:>6}  {fidelity:<12}{backend:<10}{spent * 1e3:>8.1f}"
            print(f"{line}{spent / base:>8.2f}{goal:>7.2f}")


if __name__ == "__main__":
    main()
