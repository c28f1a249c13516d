"""NkiTensor.indirect: elements of a partition at offsets that a tile holds (fourth generation)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import EmuronError, HardwareLimitError, OutOfBoundsError, UsageError

RANDOM = np.random.default_rng(5)


def run(body, *arrays, target="trn3"):
    """Run `body` on tiles with the arrays; return the tile that it returns."""

    def kernel(*given):
        made = body(*[nl.load(g) for g in given])
        if made.buffer is nl.psum:
            made = nl.copy(made)
        out = nl.ndarray(made.shape, made.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=made)
        return out

    return nki.simulate(kernel, target=target)(*arrays)


def by_definition(data, index, count, group):
    """Return what is gathered: offset number i of a group stands at index[i % G, i // G]."""
    made = np.empty((data.shape[0], count), data.dtype)
    for p in range(data.shape[0]):
        first = p // group * group
        rows = min(group, data.shape[0] - first)
        for i in range(count):
            made[p, i] = data[p, index[first + i % rows, i // rows]]
    return made


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([4, 16, 32, 48, 128]),
    st.integers(1, 3),
    st.integers(1, 12),
    st.sampled_from([np.float32, np.int16]),
    st.data(),
)
def test_a_copy_gathers_by_the_offsets_of_its_group(partitions, columns, free, dtype, data):
    source = RANDOM.integers(-99, 99, (partitions, free)).astype(dtype)
    index = RANDOM.integers(0, free, (partitions, columns)).astype(np.uint32)
    count = data.draw(st.integers(1, min(partitions, 16) * columns))

    def body(x, i):
        made = nl.ndarray((partitions, count), x.dtype)
        nisa.tensor_copy(made, x.indirect(i, count))
        return made

    found = run(body, source, index)
    assert found.tolist() == by_definition(source, index, count, 16).tolist()


def test_a_write_scatters_and_leaves_the_rest():
    source = RANDOM.standard_normal((32, 16)).astype(np.float32)
    index = np.stack([RANDOM.permutation(40)[:16] for _ in range(2)]).astype(np.int32)

    def body(x, i):
        made = nl.full((32, 40), -1.0, nl.float32)
        nisa.tensor_scalar(made.indirect(i), x, nl.multiply, 2.0)
        return made

    found = run(body, source, index.reshape(32, 1))
    wanted = np.full((32, 40), -1.0, np.float32)
    for p in range(32):
        for i in range(16):
            wanted[p, index[p // 16, i]] = 2 * source[p, i]
    assert found.tolist() == wanted.tolist()


def test_the_tensor_engine_shares_offsets_in_quadrants():
    stationary = RANDOM.integers(-4, 4, (64, 8)).astype(np.float32)
    moving = RANDOM.integers(-4, 4, (64, 20)).astype(np.float32)
    index = RANDOM.integers(0, 20, (64, 1)).astype(np.uint32)

    def body(a, b, i):
        made = nl.ndarray((8, 32), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(made, a, b.indirect(i, 32))
        return made

    gathered = by_definition(moving, index, 32, 32)
    assert run(body, stationary, moving, index).tolist() == (stationary.T @ gathered).tolist()


DATA = np.ones((32, 8), np.float32)
INDEX = np.zeros((32, 1), np.uint32)


@pytest.mark.parametrize(
    ("error", "body", "message"),
    [
        (
            HardwareLimitError,
            lambda x, i: nisa.tensor_tensor(x, x, x.indirect(i, 8), nl.add),
            r"data2 is gathered.*dst, data1",
        ),
        (
            HardwareLimitError,
            lambda x, i: nisa.tensor_copy(nl.ndarray((32, 17), nl.float32), x.indirect(i, 17)),
            r"17 elements in each partition, and 16 partitions of its index hold 16",
        ),
        (
            HardwareLimitError,
            lambda x, i: nisa.tensor_copy(x[0:16, :], x[0:16, :].indirect(i[16:32, :], 8)),
            r"start",
        ),
        (UsageError, lambda x, i: x.indirect(i[0:16, :]), "32 partitions, the index"),
        (UsageError, lambda x, i: x.indirect(i, 0), "at least 1"),
        (UsageError, lambda x, i: x.indirect(i)[:, 0:4], "Take them before"),
        (UsageError, lambda x, i: x.indirect(i).permute((0, 1)), "Take them before"),
        (UsageError, lambda x, i: x.indirect(x), "must hold integers"),
    ],
)
def test_what_cannot_be_gathered_is_refused(error, body, message):
    def kernel(x, i):
        body(x, i)
        return x

    with pytest.raises(error, match=message):
        run(kernel, DATA, INDEX)


def test_an_offset_outside_the_partition_is_an_error():
    def body(x, i):
        nisa.tensor_copy(nl.ndarray((32, 4), nl.float32), x.indirect(i, 4))
        return x

    with pytest.raises(OutOfBoundsError, match=r"index of src holds 8; legal offsets .* 0 to 7"):
        run(body, DATA, INDEX + 8)


@pytest.mark.parametrize("target", ["inf2", "trn2"])
def test_earlier_generations_refuse_it(target):
    def body(x, i):
        nisa.tensor_copy(nl.ndarray((32, 4), nl.float32), x.indirect(i, 4))
        return x

    with pytest.raises(EmuronError, match="cannot do"):
        run(body, DATA, INDEX, target=target)
