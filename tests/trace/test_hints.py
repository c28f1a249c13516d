"""Hints: each rule on the smallest evidence that shows its loss, and on one that does not."""

from dataclasses import replace

import pytest

from emuron.trace.bounds import find_bounds, roofline_use
from emuron.trace.critical_path import find_critical_path
from emuron.trace.evidence import Evidence
from emuron.trace.hints import RULES, find_hints
from emuron.trace.summary import summarize
from emuron.trace.trace import TraceBuilder
from emuron.trace.waits import find_causes, find_waits
from emuron.trace.work import Figures, Traffic, Work

FIGURES = Figures(
    partitions=128,
    shortest_cycles=64,
    pe_tflops=80.0,
    fp32_passes=4,
    table_load_ps=1000,
    hbm_gb_per_s=400.0,
    dma_gb_per_s=400.0,
    full_row_bytes=512,
    software_descriptor_ps=2000,
    perf_dtypes=("bfloat16", "float16"),
)
LINE = "k.py:7"


def work(engine="vector", mnemonic="tensor_copy", **changes):
    made = Work(LINE, engine, mnemonic, 1, 1000, 128, 512, ("bfloat16", "bfloat16"))
    return replace(made, **changes)


def evidence(*works, busy=(), traffic=(), total_ps=None, table_loads=None):
    """Return evidence of a run in which each (queue, ps) of `busy` runs LINE, one after another."""
    builder, at = TraceBuilder(), 0
    for queue, ps in busy:
        own = builder.queue(queue)
        blocker = -1 if not at else builder.queue(busy[0][0]) if len(busy) == 1 else own
        builder.add_columns(
            own, at, at + ps, builder.label("x"), builder.group(LINE), 0, 0, blocker
        )
        at += ps
    trace = builder.finish(total_ps)
    causes = find_causes(trace)
    return Evidence(
        summary=summarize(trace),
        figures=FIGURES,
        works=works,
        traffic=traffic,
        waits=find_waits(trace, causes),
        critical=None,
        bounds=find_bounds(works, 0, FIGURES),
        table_loads=table_loads or {},
    )


def rules(found):
    return [hint.rule for hint in found]


def test_short_dma_rows_cost_what_full_rows_of_the_same_bytes_would_not():
    # 1 MiB at 400 GB/s takes 2.62 µs; it took 10.
    slow = work("dma", "dma_copy", busy_ps=10_000_000, bytes=2**20, descriptors=8192, row_bytes=128)
    (hint,) = find_hints(evidence(slow, busy=[("dma0", 10_000_000)]))
    assert (hint.rule, hint.line, hint.engine) == ("small-dma-rows", LINE, "dma")
    assert hint.gain_ps == 10_000_000 - round(2**20 * 1000 / 400)
    assert hint.quantities["row_bytes"] == 128
    assert "128 bytes" in hint.measured
    assert "512 bytes" in hint.measured


def test_full_dma_rows_are_fine():
    good = work("dma", "dma_copy", busy_ps=2_621_440, bytes=2**20, descriptors=128, row_bytes=8192)
    assert find_hints(evidence(good, busy=[("dma0", 2_621_440)])) == ()


def test_matmuls_slower_than_at_full_clock_are_cold():
    slow = work("tensor", "nc_matmul", busy_ps=6000)
    (hint,) = find_hints(evidence(slow, busy=[("tensor", 10_000)]))
    assert (hint.rule, hint.gain_ps) == ("cold-tensor-engine", 4000)


def test_table_loads_count_from_the_third_on():
    loads = {LINE: 3}
    busy = [("scalar", 10_000)]
    found = {h.rule: h.gain_ps for h in find_hints(evidence(busy=busy, table_loads=loads))}
    assert found["activation-table-loads"] == 3000
    assert "activation-table-loads" not in rules(
        find_hints(evidence(busy=busy, table_loads={LINE: 2}))
    )


def test_software_descriptors_are_counted():
    indirect = work("dma", "dma_copy", count=5, trigger="swdge", busy_ps=1000, row_bytes=4096)
    found = find_hints(evidence(indirect, busy=[("dma0", 50_000)]))
    assert [(h.rule, h.gain_ps) for h in found] == [("software-descriptors", 10_000)]


def test_instructions_under_the_least_issue_time_lose_the_rest_of_it():
    short = work(count=10, elements=16, busy_ps=640)
    found = {h.rule: h.gain_ps for h in find_hints(evidence(short, busy=[("vector", 6400)]))}
    assert found["short-instructions"] == 4800


def test_fp32_matmuls_could_take_one_pass():
    full = work("tensor", "nc_matmul", busy_ps=8000, flops=99, dtypes=("float32",) * 3)
    found = find_hints(evidence(full, busy=[("tensor", 8000)]))
    assert [(h.rule, h.gain_ps) for h in found] == [("fp32-matmuls", 6000)]


def test_bf16_matmuls_into_fp32_are_fine():
    good = work("tensor", "nc_matmul", busy_ps=8000, flops=99, dtypes=("float32", "bfloat16"))
    assert find_hints(evidence(good, busy=[("tensor", 8000)])) == ()


def test_wide_types_matter_where_the_vector_engine_bounds_the_run():
    wide = work(busy_ps=9000, dtypes=("float32", "float32"))
    assert "wide-vector-types" in rules(find_hints(evidence(wide, busy=[("vector", 9000)])))
    idle = evidence(wide, busy=[("vector", 9000)], total_ps=90_000)
    assert "wide-vector-types" not in rules(find_hints(idle))


def test_half_empty_partitions_waste_lanes():
    narrow = work(busy_ps=9000, partitions=32)
    found = {h.rule: h for h in find_hints(evidence(narrow, busy=[("vector", 9000)]))}
    assert found["few-partitions"].gain_ps == 6750


def test_a_tensor_read_again_and_again_is_named():
    traffic = (Traffic("weights", 1_000_000, 4_000_000, 0), Traffic("x", 10, 10, 0))
    found = find_hints(evidence(busy=[("dma0", 10_000_000)], traffic=traffic))
    (hint,) = found
    assert (hint.rule, hint.line) == ("reread-tensor", "weights")
    assert hint.gain_ps == round(3_000_000 * 1000 / 400)


def test_an_engine_that_bounds_the_run_can_share_with_one_that_idles():
    found = find_hints(evidence(work(busy_ps=9000), busy=[("vector", 9000), ("scalar", 1000)]))
    (hint,) = (h for h in found if h.rule == "one-busy-engine")
    assert hint.gain_ps == 4000
    assert "Scalar 10.0 %" in hint.measured


def ping_pong(turns):
    """Return evidence of a load and a copy that wait for each other `turns` times."""
    builder, at = TraceBuilder(), 0
    ring, vector = builder.queue("dma-loads0"), builder.queue("vector")
    label, lines = builder.label("x"), [builder.group("k.py:1"), builder.group("k.py:2")]
    for turn in range(turns):
        blocker = vector if turn else -1
        builder.add_columns(ring, at, at + 100, label, lines[0], 64, 0, blocker, 10)
        builder.add_columns(vector, at + 110, at + 150, label, lines[1], 0, 0, ring, 10)
        at += 160
    trace = builder.finish()
    causes = find_causes(trace)
    works = (
        Work("k.py:1", "dma", "dma_copy", turns, 100, 128, 512, ("bfloat16",), row_bytes=4096),
        Work("k.py:2", "vector", "tensor_copy", turns, 40, 128, 512, ("bfloat16",)),
    )
    return Evidence(
        summarize(trace), FIGURES, works, (), find_waits(trace, causes),
        find_critical_path(trace, causes), find_bounds(works, 0, FIGURES), {},
    )  # fmt: skip


def test_a_load_and_an_engine_that_wait_for_each_other_share_one_buffer():
    (hint,) = find_hints(ping_pong(10))
    assert (hint.rule, hint.line) == ("single-buffered", "k.py:1")
    # 10 waits of 120 ps (the first 110); the loads alone need 1000 of the 1590 ps.
    assert hint.quantities["wait_us"] == pytest.approx(1190e-6)
    assert hint.gain_ps == 1590 - 1000


def test_a_load_that_waits_for_the_store_before_it_shares_its_buffer():
    builder, at = TraceBuilder(), 0
    loads, vector, stores = (builder.queue(n) for n in ("dma-loads0", "vector", "dma-stores0"))
    label, lines = builder.label("x"), [builder.group(f"k.py:{n}") for n in (1, 2, 3)]
    for turn in range(6):
        blocker = stores if turn else -1
        builder.add_columns(loads, at, at + 100, label, lines[0], 64, 0, blocker, 10)
        builder.add_columns(vector, at + 110, at + 150, label, lines[1], 0, 0, loads, 10)
        builder.add_columns(stores, at + 160, at + 200, label, lines[2], 64, 0, vector, 10)
        at += 210
    trace = builder.finish()
    causes = find_causes(trace)
    made = Evidence(
        summarize(trace), FIGURES, (), (), find_waits(trace, causes),
        find_critical_path(trace, causes), (), {},
    )  # fmt: skip
    (hint,) = (h for h in find_hints(made) if h.rule == "single-buffered")
    assert hint.line == "k.py:1"


def test_two_turns_are_no_pattern():
    assert find_hints(ping_pong(2)) == ()


@pytest.mark.parametrize(("psum", "rule"), [(True, "slow-psum-evictions"), (False, "serial-chain")])
def test_the_tensor_engine_waits_for_copies_or_for_a_chain(psum, rule):
    builder, at = TraceBuilder(), 0
    tensor, vector = builder.queue("tensor"), builder.queue("vector")
    label, lines = builder.label("x"), [builder.group("k.py:1"), builder.group("k.py:2")]
    for turn in range(8):
        builder.add_columns(tensor, at, at + 50, label, lines[0], 0, 0, vector if turn else -1, 10)
        builder.add_columns(vector, at + 60, at + 100, label, lines[1], 0, 0, tensor, 10)
        at += 110
    trace = builder.finish()
    causes = find_causes(trace)
    works = (replace(work(), group="k.py:2", count=8, busy_ps=40, reads_psum=psum),)
    made = Evidence(
        summarize(trace), FIGURES, works, (), find_waits(trace, causes),
        find_critical_path(trace, causes), find_bounds(works, 0, FIGURES), {},
    )  # fmt: skip
    (hint,) = (h for h in find_hints(made) if h.engine == "vector" and h.line == "k.py:2"
               and h.rule != "one-busy-engine")  # fmt: skip
    assert hint.rule == rule
    assert hint.quantities["events"] == 7


def test_no_gain_exceeds_what_the_other_resources_leave():
    slow = work("dma", "dma_copy", busy_ps=10_000_000, bytes=2**20, descriptors=8192, row_bytes=128)
    heavy = work("tensor", "nc_matmul", busy_ps=9_000_000)
    (hint,) = find_hints(evidence(slow, heavy, busy=[("dma0", 10_000_000)]))
    assert hint.gain_ps == 1_000_000


def test_every_rule_says_what_it_looks_for():
    assert all(rule.__doc__ and rule.__doc__.startswith("Find ") for rule in RULES)


def test_the_roofline_names_what_bounds_the_kernel():
    use = roofline_use(8_000_000, 100_000, 1_000_000, FIGURES)
    assert use.intensity == 80
    assert use.ridge_intensity == 200
    assert use.attainable_tflops == pytest.approx(32)
    assert use.achieved_tflops == pytest.approx(8)
    assert use.roof_share == pytest.approx(0.25)
    assert use.bound_by == "bandwidth"
    assert roofline_use(10**9, 10, 10**6, FIGURES).bound_by == "compute"
    assert roofline_use(0, 100, 100, FIGURES) is None
