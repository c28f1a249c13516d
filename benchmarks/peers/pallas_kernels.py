"""Run a workload on Pallas' TPU interpret mode (JAX), in tiles of the same size."""

from __future__ import annotations

import os

# One thread, and the CPU even where there is more; before jax is imported.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu


def matmul_kernel(lhs, rhs, out, acc):
    """Add the product of two tiles to one of the result."""
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _():
        acc[...] = jnp.zeros_like(acc)

    acc[...] += jnp.dot(lhs[...], rhs[...], preferred_element_type=jnp.float32)

    @pl.when(step == pl.num_programs(2) - 1)
    def _():
        out[...] = acc[...].astype(out.dtype)


def softmax_kernel(x, out):
    """Write the softmax of some whole rows."""
    values = x[...]
    powers = jnp.exp(values - jnp.max(values, axis=1, keepdims=True))
    out[...] = powers / jnp.sum(powers, axis=1, keepdims=True)


def attention_kernel(query, key, value, out, largest, total, acc):
    """Add the attention of some queries to some keys, with running maxima and sums."""
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _():
        largest[...] = jnp.full_like(largest, -jnp.inf)
        total[...] = jnp.zeros_like(total)
        acc[...] = jnp.zeros_like(acc)

    scores = jnp.dot(query[0], key[0].T, preferred_element_type=jnp.float32) * workloads.SCALE
    now = jnp.maximum(largest[...], jnp.max(scores, axis=1, keepdims=True))
    weights = jnp.exp(scores - now)
    correction = jnp.exp(largest[...] - now)
    total[...] = total[...] * correction + jnp.sum(weights, axis=1, keepdims=True)
    acc[...] = acc[...] * correction + jnp.dot(weights, value[0])
    largest[...] = now

    @pl.when(step == pl.num_programs(2) - 1)
    def _():
        out[0] = acc[...] / total[...]


def _call(work: workloads.Workload, columns: int) -> Callable[..., Any]:
    rows = workloads.TILE
    out = jax.ShapeDtypeStruct(work.expected.shape, work.arrays[-1].dtype)
    simulated = partial(pl.pallas_call, out_shape=out, interpret=pltpu.InterpretParams())
    if work.kind == "matmul":
        side = workloads.MATMUL_SIDE
        return simulated(
            matmul_kernel,
            grid=(side // rows, side // columns, side // rows),
            in_specs=[
                pl.BlockSpec((rows, rows), lambda m, n, k: (m, k)),
                pl.BlockSpec((rows, columns), lambda m, n, k: (k, n)),
            ],
            out_specs=pl.BlockSpec((rows, columns), lambda m, n, k: (m, n)),
            scratch_shapes=[pltpu.VMEM((rows, columns), jnp.float32)],
        )
    if work.kind == "softmax":
        side = workloads.SOFTMAX_SIDE
        block = pl.BlockSpec((rows, side), lambda m: (m, 0))
        return simulated(softmax_kernel, grid=(side // rows,), in_specs=[block], out_specs=block)
    width, keys = workloads.WIDTH, work.keys
    own = pl.BlockSpec((1, rows, width), lambda h, m, k: (h, m, 0))
    other = pl.BlockSpec((1, keys, width), lambda h, m, k: (h, k, 0))
    return simulated(
        attention_kernel,
        grid=(workloads.HEADS, workloads.SEQUENCE // rows, workloads.SEQUENCE // keys),
        in_specs=[own, other, other],
        out_specs=own,
        scratch_shapes=[
            pltpu.VMEM((rows, 1), jnp.float32),
            pltpu.VMEM((rows, 1), jnp.float32),
            pltpu.VMEM((rows, width), jnp.float32),
        ],
    )


def prepare(work: workloads.Workload) -> Mapping[str, Callable[[], Any]]:
    """Return how Pallas runs a workload; it is compiled before the clock runs."""
    arrays = [jnp.asarray(array) for array in work.arrays]

    def way(columns: int) -> Callable[[], Any]:
        call = jax.jit(_call(work, columns))
        return lambda: np.asarray(call(*arrays))

    if work.kind == "matmul":
        return {f"Pallas, {n} columns": way(n) for n in workloads.TILE_COLUMNS}
    return {"Pallas": way(0)}


if __name__ == "__main__":
    workloads.main(prepare)
