"""Instances side by side: what runs, what does not and why, and what to choose."""

from __future__ import annotations

from emuron.compiler.compile import compile_model
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import GraphBuilder
from emuron.numerics.dtypes import float32
from emuron.planner.compare import Candidate, best, compare

GIB = 1 << 30


def product(columns: int) -> Graph:
    """A linear layer from 128 features to so many."""
    b = GraphBuilder("product")
    x = b.input("x", TensorType((1, 128), float32))
    b.output("y", b.linear(x, b.parameter("w", TensorType((columns, 128), float32))))
    return b.finish()


def test_candidates_come_in_order_with_time_memory_and_price():
    found = list(
        compare(
            lambda name, _: compile_model(product(256), on=name),
            ("inf2.xlarge", "trn1.2xlarge"),
            (1,),
        )
    )
    assert [c.instance for c in found] == ["inf2.xlarge", "trn1.2xlarge"]
    for c in found:
        assert c.runs
        assert c.throughput_per_s is not None
        assert c.latency_ms is not None
        # One worker a core, two cores.
        assert abs(c.throughput_per_s * c.latency_ms / 2000 - 1) < 1e-9
    # $0.7582 an hour (the instance's on-demand price) over the inferences of an hour.
    per_million = 0.7582 / 3600 / found[0].throughput_per_s * 1e6
    assert abs(found[0].usd_per_million_on_demand / per_million - 1) < 1e-6


def test_a_model_that_does_not_fit_says_why():
    wide = 5 * GIB * 2 // 128 // 4  # 10 GiB of float32, 5 GiB in bfloat16: a core has 16 GiB
    small, large = product(wide), product(4 * wide)
    assert small.parameter_bytes < 16 * GIB < large.parameter_bytes // 2
    found = list(compare(lambda name, _: compile_model(large, on=name), ("inf2.xlarge",), (1,)))
    assert not found[0].runs
    assert "does not fit" in found[0].reason
    assert found[0].latency_ms is None


def test_the_best_is_told_for_each_aim():
    cheap = Candidate("a", 1, "", 2.0, 10.0, 1, 2, "dma", 0.1, 0.05)
    quick = Candidate("b", 1, "", 1.0, 9.0, 1, 2, "dma", 0.3, 0.05)
    absent = Candidate("c", 1, "does not fit")
    unpriced = Candidate("d", 8, "", 4.0, 50.0, 1, 2, "dma")
    chosen = best([cheap, quick, absent, unpriced])
    assert (chosen.latency, chosen.throughput, chosen.price) == (quick, unpriced, cheap)
    assert best([absent]).price is None
