from __future__ import annotations

import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers
from tests.isa.generations import on_every_generation


def named(bench, rows=16, columns=3, k=8):
    return {
        "val_dst": bench.empty((rows, k), "bfloat16"),
        "idx_dst": bench.empty((rows, k), "uint32"),
        "src": bench.empty((rows, columns), "bfloat16"),
    }


@on_every_generation(
    "topk",
    examples=12,
    groups=st.integers(1, 3),
    n=st.integers(8, 48),
    k=st.integers(1, 8),
    seed=st.integers(0, 9),
)
def test_each_group_of_16_partitions_gives_its_largest_ascending(core, groups, n, k, seed):
    bench = Bench(core)
    x = integers((16 * groups, 3), seed)
    given = named(bench, 16 * groups, 3, k)
    given["src"] = bench.tile(x, "bfloat16")
    bench.run("topk", **given, n=n)
    values, places = bench.values(given["val_dst"]), bench.read(given["idx_dst"])
    for p in range(16 * groups):
        group = p // 16 * 16
        snake = [x[group + i % 16, i // 16] for i in range(n)]
        best = sorted((v, i) for i, v in enumerate(snake))[-k:]
        assert values[p].tolist() == [v for v, _ in best]
        assert places[p].tolist() == [i for _, i in best]


@pytest.mark.parametrize(
    ("changes", "n", "match"),
    [
        ({}, 7, "n=7. It is 8 to 65535"),
        ({}, 49, "16 partitions of src hold 48"),
        ({"k": 9}, 8, "asks for 9 of n=8"),
        ({"rows": 24}, 8, "src has 24 partitions"),
    ],
)
def test_sizes_beyond_the_limits_are_refused(bench, changes, n, match):
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("topk", **named(bench, **changes), n=n)


def test_other_dtypes_are_refused(bench):
    given = named(bench) | {"idx_dst": bench.empty((16, 8), "int32")}
    with pytest.raises(HardwareLimitError, match=r"idx_dst .* is int32"):
        bench.form("topk", **given, n=8)


def test_it_takes_four_cycles_an_element_and_one_for_each_found(bench):
    form = bench.form("topk", **named(bench, columns=64, k=100), n=1000)
    assert form.cost.cycles == 4 * 1000 + 100  # ISA32
