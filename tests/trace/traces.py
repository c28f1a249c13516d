"""Traces for the tests of this folder: random ones for the oracles, one that looks like a model."""

import random

from emuron.trace.trace import Trace, TraceBuilder

QUEUES = ("tensor", "vector", "scalar", "dma0", "dma1")


def random_block(rng: random.Random, events: int, groups: int = 3) -> Trace:
    """Return a trace of short events on a few queues, overlaps and gaps included."""
    builder = TraceBuilder()
    for _ in range(events):
        start = rng.randrange(0, 60)
        builder.add(
            rng.choice(QUEUES),
            rng.choice(("matmul", "copy", "load")),
            start,
            start + rng.randrange(0, 25),
            group=f"layer{rng.randrange(groups)}",
            bytes=rng.randrange(0, 1000),
            flops=rng.randrange(0, 1000),
        )
    return builder.finish()


def random_trace(seed: int, depth: int = 2) -> Trace:
    """Return blocks one after another, some repeated, also overlapping, with repeats inside."""
    rng = random.Random(seed)
    if depth == 0:
        return random_block(rng, rng.randrange(1, 6))
    builder = TraceBuilder({"pe_peak_tflops": 90.0, "hbm_gb_per_s": 400.0})
    at = 0
    for part in range(rng.randrange(1, 4)):
        block = random_trace(rng.randrange(10**9) + part, depth - 1)
        count = rng.choice((1, 1, 2, 3, 7, 15))
        period = max(1, rng.choice((block.total_ps, block.total_ps // 2, block.total_ps + 7)))
        builder.extend(block, at, count=count, period_ps=period)
        at += (count - 1) * period + rng.choice((block.total_ps, block.total_ps * 2 // 3))
    return builder.finish()


def staggered_trace(seed: int) -> Trace:
    """Return a loop as simulators record it: each queue at another turn when they skip."""
    rng = random.Random(seed)
    builder = TraceBuilder()
    period, count, turns = rng.randrange(10, 40), rng.randrange(2, 60), rng.randrange(1, 4)
    for queue in QUEUES:
        offset, length = rng.randrange(0, 3 * period), rng.randrange(1, period + 9)
        for turn in range(turns + 1):
            at = offset + turn * period
            row = builder.add(queue, "x", at, at + length, group=queue)
        builder.repeat(offset + turns * period, period, count, first=row, stop=row + 1)
        for turn in range(rng.randrange(0, 3)):
            at = offset + (turns + count + turn) * period
            builder.add(queue, "x", at, at + length, group="tail")
    return builder.finish()


def model_trace(layers: int = 12, repeated: bool = False) -> Trace:
    """Return a run that looks like an encoder: loads, matmuls, softmax, stores on six queues."""
    builder = TraceBuilder(
        {
            "pe_peak_tflops": 92.0,
            "pe_peaks_tflops": {"BF16": 92.0, "FP32": 23.0},
            "hbm_gb_per_s": 410.0,
            "capacities": {"sbuf_bytes": 24 * 2**20, "psum_bytes": 2 * 2**20},
        }
    )
    for name in ("tensor", "vector", "scalar", "gpsimd", "dma0", "dma1"):
        builder.queue(name)
    rng = random.Random(1)
    at = _copy(builder, "embeddings", 0, 6 * 2**20)
    blocks = 1 if repeated else layers
    for layer in range(blocks):
        group = "encoder.layer" if repeated else f"encoder.layer.{layer}"
        first, begin = len(builder), at
        at = _layer(builder, group, at, rng)
        if repeated:
            builder.repeat(begin, at - begin, layers, first=first, stop=len(builder))
            at += (layers - 1) * (at - begin)
    _copy(builder, "pooler", at, 2**20)
    return builder.finish()


def _copy(builder: TraceBuilder, group: str, at: int, size: int) -> int:
    end = at + 2_000_000 + size * 6
    builder.add("dma0", "dma_copy", at, end, group=group, bytes=size)
    builder.add("gpsimd", "iota", at, at + 400_000, group=group)
    builder.counter("hbm_bytes", at, 220 * 2**20)
    return end


def _layer(builder: TraceBuilder, group: str, at: int, rng: random.Random) -> int:
    for part, flops, size in (
        ("attention/qkv", 3_600_000_000, 3_500_000),
        ("attention/scores", 400_000_000, 300_000),
        ("attention/output", 1_200_000_000, 1_200_000),
        ("mlp/up", 4_800_000_000, 4_700_000),
        ("mlp/down", 4_800_000_000, 4_700_000),
    ):
        name = f"{group}/{part}"
        load = size * 3 + rng.randrange(200_000)
        builder.add("dma0", "dma_load", at, at + load, group=name, bytes=size // 2)
        builder.add("dma1", "dma_load", at, at + load // 2, group=name, bytes=size // 2)
        builder.counter("sbuf_bytes", at, 9 * 2**20 + size)
        builder.counter("psum_bytes", at, rng.randrange(2**20))
        step, begin = flops // 75 // 16, at + load // 3
        for tile in range(16):
            t = begin + tile * step
            builder.add("tensor", "nc_matmul", t, t + step * 9 // 10, group=name, flops=flops // 16)
            builder.add("vector", "tensor_copy", t + step, t + step * 3 // 2, group=name)
        end = begin + 17 * step
        label = "exp" if part.endswith("scores") else "gelu"
        builder.add("scalar", label, end, end + step * 2, group=name)
        builder.counter("sbuf_bytes", end, 5 * 2**20)
        at = end + step * 3
    return at
