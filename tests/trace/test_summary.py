from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.trace.repetition import fold, loops, unfold
from emuron.trace.summary import IDLE, queue_kind, summarize
from emuron.trace.trace import Trace, TraceBuilder
from tests.trace.traces import model_trace, random_trace, staggered_trace


def instants(trace: Trace) -> list[tuple[int, set[int]]]:
    """Return (length, rows that run) between all neighbouring edges, the naive way."""
    rows = list(zip(trace.start_ps.tolist(), trace.end_ps.tolist(), strict=True))
    edges = sorted({0, trace.total_ps, *(t for row in rows for t in row)})
    return [
        (b - a, {i for i, (start, end) in enumerate(rows) if start <= a and end >= b})
        for a, b in pairwise(edges)
    ]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**9))
def test_busy_times_of_repeated_traces_equal_a_naive_walk_over_every_instant(seed):
    trace = random_trace(seed)
    whole = unfold(trace)
    if len(whole) > 1500:
        return
    found = summarize(trace)
    assert found.exact
    walk = instants(whole)
    assert found.busy_ps == sum(length for length, rows in walk if rows)
    assert found.idle_ps == sum(length for length, rows in walk if not rows)
    for number, use in enumerate(found.queues):
        assert use.busy_ps == sum(
            n for n, rows in walk if any(whole.queue[i] == number for i in rows)
        )
    shares = dict.fromkeys(whole.groups, Fraction(0))
    for length, rows in walk:
        active = {whole.groups[whole.group[i]] for i in rows}
        for name in active:
            shares[name] += Fraction(length, len(active))
    for group in found.groups:
        if group.name != IDLE:
            assert group.share_ps == pytest.approx(float(shares[group.name]), rel=1e-9, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**9))
def test_three_levels_of_repeats_summarize_as_if_written_out(seed):
    trace = random_trace(seed, depth=3)
    if trace.multiplicity().sum() > 5_000:
        return
    found, expected = summarize(trace), summarize(unfold(trace))
    assert found.queues == expected.queues
    assert found.kinds == expected.kinds
    assert (found.busy_ps, found.events) == (expected.busy_ps, expected.events)
    for mine, theirs in zip(found.groups, expected.groups, strict=True):
        assert (mine.name, mine.active_ps, mine.busy_ps) == (
            theirs.name,
            theirs.active_ps,
            theirs.busy_ps,
        )
        assert mine.share_ps == pytest.approx(theirs.share_ps, rel=1e-9, abs=1e-6)


def test_a_loop_of_a_billion_turns_folds_into_a_few_events():
    builder = TraceBuilder()
    builder.add("tensor", "x", 0, 7)
    builder.add("dma0", "load", 3, 15, bytes=10)
    builder.repeat(0, 10, 10**9, first=0, stop=2)
    trace = builder.finish()
    assert len(fold(trace).row) < 10
    found = summarize(trace)
    assert found.total_ps == 10**10 + 5
    assert [use.busy_ps for use in found.queues] == [7 * 10**9, 10**10 + 2]
    assert found.dma_bytes == 10**10
    assert found.busy_ps == found.total_ps


def test_shares_of_groups_and_idle_time_add_up_to_the_run():
    found = summarize(model_trace())
    assert sum(g.share_ps for g in found.groups) == pytest.approx(found.total_ps, rel=1e-12)
    assert sum(g.share for g in found.groups) == pytest.approx(1.0, rel=1e-12)


def test_layers_timed_once_count_as_all_their_repetitions():
    once, trace = summarize(model_trace(1)), summarize(model_trace(repeated=True))
    layer_flops = once.flops
    assert trace.flops == 12 * layer_flops
    assert trace.queues[0].busy_ps == 12 * once.queues[0].busy_ps


def test_mfu_and_mbu_are_shares_of_the_peaks_of_the_metadata():
    builder = TraceBuilder({"pe_peak_tflops": 100.0, "hbm_gb_per_s": 400.0})
    builder.add("tensor", "nc_matmul", 0, 1_000_000, flops=50_000_000)
    builder.add("vector", "add", 0, 1_000_000, flops=10**9)
    builder.add("dma0", "load", 0, 1_000_000, bytes=100_000)
    found = summarize(builder.finish())
    # 50 MFLOP in a microsecond are 50 TFLOP/s; 100 kB in a microsecond are 100 GB/s.
    assert found.mfu == pytest.approx(0.5)
    assert found.mbu == pytest.approx(0.25)


def test_without_peaks_there_is_no_mfu():
    builder = TraceBuilder()
    builder.add("tensor", "nc_matmul", 0, 10, flops=5)
    assert summarize(builder.finish()).mfu is None


@pytest.mark.parametrize(
    ("queue", "length", "bound_by"),
    [
        ("dma3", 90, "dma"),
        ("nc1/tensor", 80, "tensor"),
        ("vector", 61, "vector"),
        ("sync", 20, "latency"),
    ],
)
def test_the_verdict_names_the_engine_that_is_busy_most_of_the_time(queue, length, bound_by):
    builder = TraceBuilder()
    builder.add(queue, "x", 0, length)
    builder.add("scalar", "y", 95, 100)
    verdict = summarize(builder.finish()).verdict
    assert verdict.bound_by == bound_by
    assert f"{length}.0 %" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tensor", "tensor"),
        ("nc0/vector", "vector"),
        ("dma12", "dma"),
        ("q7", "dma"),
        ("pe", "tensor"),
        ("act", "scalar"),
        ("gpsimd_dma", "gpsimd"),
        ("host", "host"),
        ("cc0", "collective"),
        ("weights dma", "dma"),
        ("printer", "other"),
    ],
)
def test_queues_are_known_by_their_names(name, kind):
    assert queue_kind(name) == kind


def test_an_empty_trace_has_a_summary():
    found = summarize(TraceBuilder().finish())
    assert (found.total_ps, found.queues, found.groups) == (0, (), ())
    assert found.verdict.bound_by == "nothing"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**9))
def test_queues_that_run_ahead_in_a_loop_have_repeats_of_their_own(seed):
    trace = staggered_trace(seed)
    found, expected = summarize(trace), summarize(unfold(trace))
    assert found.queues == expected.queues
    assert (found.total_ps, found.busy_ps) == (expected.total_ps, expected.busy_ps)


def test_a_loop_with_a_repeat_for_each_queue_folds_as_one():
    builder = TraceBuilder()
    for number, queue in enumerate(("dma0", "tensor", "vector")):
        for turn in range(3):
            row = builder.add(queue, "x", turn * 10 + number * 7, turn * 10 + number * 7 + 6)
        builder.repeat(20 + number * 7, 10, 10**8, first=row, stop=row + 1)
    trace = builder.finish()
    assert len(fold(trace).row) < 40
    assert [use.busy_ps for use in summarize(trace).queues] == [6 * (10**8 + 2)] * 3
    assert len(loops(trace)) == 1


def test_repeats_that_share_events_in_part_shift_each_event_by_its_own():
    builder = TraceBuilder()
    for start in (0, 10, 20):
        builder.add("tensor", "x", start, start + 5)
    builder.repeat(0, 100, 3, first=0, stop=2)
    builder.repeat(10, 40, 2, first=1, stop=3)
    trace = builder.finish()
    starts = [0, 100, 200, 10, 110, 210, 50, 150, 250, 20, 60]
    assert unfold(trace).start_ps.tolist() == sorted(starts)
    assert summarize(trace).busy_ps == 5 * len(starts)


def test_two_loops_side_by_side_with_different_periods_stay_exact():
    builder = TraceBuilder()
    builder.add("nc0/tensor", "x", 0, 3)
    builder.repeat(0, 7, 40, first=0, stop=1)
    builder.add("nc1/tensor", "y", 1, 5)
    builder.repeat(1, 11, 30, first=1, stop=2)
    trace = builder.finish()
    assert summarize(trace).busy_ps == sum(n for n, rows in instants(unfold(trace)) if rows)


def test_loops_too_long_to_write_out_side_by_side_are_said_to_be_approximate():
    builder = TraceBuilder()
    builder.add("nc0/tensor", "x", 0, 3)
    builder.repeat(0, 7, 4000, first=0, stop=1)
    builder.add("nc1/tensor", "y", 1, 5)
    builder.repeat(1, 11, 3000, first=1, stop=2)
    trace = builder.finish()
    assert fold(trace).exact
    assert not fold(trace, most_events=100).exact
