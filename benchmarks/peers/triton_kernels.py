"""Run a workload on Triton's interpreter (TRITON_INTERPRET=1), in tiles of the same size."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import torch
import triton
import triton.language as tl
import workloads


@triton.jit
def matmul_kernel(
    lhs, rhs, out, M, N, K, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr
):
    """Write one tile of lhs @ rhs."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    acc = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, K, DEPTH):
        a = tl.load(lhs + rows[:, None] * K + start + depth[None, :])
        b = tl.load(rhs + (start + depth[:, None]) * N + columns[None, :])
        # The interpreter's dot of bfloat16 gives other numbers; products in fp32 are the same.
        acc = tl.dot(a.to(tl.float32), b.to(tl.float32), acc)
    tl.store(out + rows[:, None] * N + columns[None, :], acc.to(out.dtype.element_ty))


@triton.jit
def softmax_kernel(x, out, N, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Write the softmax of some whole rows."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    places = rows[:, None] * N + tl.arange(0, COLUMNS)[None, :]
    values = tl.load(x + places)
    powers = tl.exp(values - tl.max(values, axis=1)[:, None])
    tl.store(out + places, powers / tl.sum(powers, axis=1)[:, None])


@triton.jit
def attention_kernel(
    query, key, value, out, SCALE, S, WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr
):
    """Write the attention of some queries of one head, with running maxima and sums."""
    first = tl.program_id(1) * S * WIDTH
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    width = tl.arange(0, WIDTH)
    queries = tl.load(query + first + rows[:, None] * WIDTH + width[None, :])
    largest = tl.full((ROWS,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    acc = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for start in range(0, S, KEYS):
        places = first + (start + tl.arange(0, KEYS)[:, None]) * WIDTH + width[None, :]
        scores = tl.dot(queries, tl.trans(tl.load(key + places))) * SCALE
        now = tl.maximum(largest, tl.max(scores, axis=1))
        weights = tl.exp(scores - now[:, None])
        correction = tl.exp(largest - now)
        total = total * correction + tl.sum(weights, axis=1)
        acc = tl.dot(weights, tl.load(value + places), acc * correction[:, None])
        largest = now
    tl.store(out + first + rows[:, None] * WIDTH + width[None, :], acc / total[:, None])


def _tensor(array: Any) -> Any:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def prepare(work: workloads.Workload) -> Mapping[str, Callable[[], Any]]:
    """Return how Triton's interpreter runs a workload."""
    tensors = [_tensor(array) for array in work.arrays]
    out = torch.empty(work.expected.shape, dtype=tensors[-1].dtype)
    rows = workloads.TILE

    def matmul(columns: int) -> Any:
        side = workloads.MATMUL_SIDE
        grid = (side // rows, side // columns)
        matmul_kernel[grid](*tensors, out, side, side, side, rows, columns, rows)
        return out.float().numpy()

    def softmax() -> Any:
        side = workloads.SOFTMAX_SIDE
        softmax_kernel[(side // rows,)](*tensors, out, side, rows, side)
        return out.numpy()

    def attention() -> Any:
        length, width, scale = workloads.SEQUENCE, workloads.WIDTH, workloads.SCALE
        grid = (length // rows, workloads.HEADS)
        attention_kernel[grid](*tensors, out, scale, length, width, rows, work.keys)
        return out.numpy()

    if work.kind == "matmul":
        return {f"Triton, {n} columns": partial(matmul, n) for n in workloads.TILE_COLUMNS}
    return {"Triton": softmax if work.kind == "softmax" else attention}


if __name__ == "__main__":
    workloads.main(prepare)
