"""Run a workload on emuron: with data, with data and time, and without checks of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nki_kernels
import numpy as np
import workloads

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.nki.launch import run_kernel

nki_kernels.use(nl, nisa)


def _output(like, shape):
    return nl.ndarray(shape, dtype=like.dtype, buffer=nl.shared_hbm)


@nki.jit
def matmul(lhs_t, rhs):
    """Return lhs @ rhs."""
    out = _output(rhs, (lhs_t.shape[1], rhs.shape[1]))
    nki_kernels.matmul(lhs_t, rhs, out)
    return out


@nki.jit
def softmax(x):
    """Return the softmax of each row."""
    out = _output(x, x.shape)
    nki_kernels.softmax(x, out)
    return out


@nki.jit
def attention(query_t, key_t, value, keys):
    """Return the attention of each head, some keys at a time."""
    out = _output(value, value.shape)
    nki_kernels.attention(query_t, key_t, value, out, workloads.SCALE, keys)
    return out


@nki.jit
def attention_in_two_passes(query_t, key_t, value):
    """Return the attention of each head, the maxima first."""
    out = _output(value, value.shape)
    nki_kernels.attention_in_two_passes(query_t, key_t, value, out, workloads.SCALE)
    return out


KERNELS = {
    "matmul": matmul,
    "softmax": softmax,
    "attention": attention,
    "attention_in_two_passes": attention_in_two_passes,
}


def turned(work: workloads.Workload) -> tuple[Any, ...]:
    """Return the arrays of a workload with the contraction first, as NKI wants it."""
    if work.kind == "matmul":
        lhs, rhs = work.arrays
        return np.ascontiguousarray(lhs.T), rhs
    if work.kind.startswith("attention"):
        query, key, value = work.arrays
        return (*(np.ascontiguousarray(x.transpose(0, 2, 1)) for x in (query, key)), value)
    return work.arrays


def prepare(work: workloads.Workload) -> Mapping[str, Callable[[], Any]]:
    """Return how emuron runs a workload."""
    kernel, arguments = KERNELS[work.kind], list(turned(work))
    if work.kind == "attention":
        arguments.append(work.keys)
    functional = nki.simulate(kernel)

    def unchecked() -> Any:
        with nki.races("off"), nki.unwritten("poison"):
            return functional(*arguments)

    return {
        "emuron": lambda: functional(*arguments),
        "emuron, timed": lambda: run_kernel(kernel, arguments, collect=False).outputs,
        "emuron, unchecked": unchecked,
    }


if __name__ == "__main__":
    workloads.main(prepare)
