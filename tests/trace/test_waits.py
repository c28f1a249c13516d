"""Waits and the critical path, on traces small enough to follow by eye."""

from emuron.trace.critical_path import find_critical_path
from emuron.trace.trace import TraceBuilder
from emuron.trace.waits import Wait, find_causes, find_waits


def pipeline_trace():
    """Return a load, a matmul that waits for it 30 ps beyond its end, and a copy after 5 more."""
    builder = TraceBuilder()
    load, tensor, vector = (builder.queue(name) for name in ("dma-loads0", "tensor", "vector"))
    label = builder.label("x")
    lines = [builder.group(f"k.py:{n}") for n in (1, 2, 3)]
    builder.add_columns(load, 10, 100, label, lines[0], 64)
    builder.add_columns(
        tensor, [130, 150], [150, 190], label, lines[1], 0, 7, [load, tensor], [30, 0]
    )
    builder.add_columns(vector, 195, 200, label, lines[2], 0, 0, tensor, 5)
    return builder.finish(210)


def test_each_wait_names_the_line_and_the_queue_that_was_waited_for():
    trace = pipeline_trace()
    assert find_waits(trace, find_causes(trace)) == (
        Wait("vector", "k.py:3", "tensor", "k.py:2", 1, 195, 190),
        Wait("tensor", "k.py:2", "dma-loads0", "k.py:1", 1, 130, 100),
    )


def test_the_critical_path_accounts_for_all_of_the_time():
    trace = pipeline_trace()
    path = find_critical_path(trace, find_causes(trace))
    assert path.events == 4
    assert path.busy_ps == {
        ("k.py:1", "dma"): 90,
        ("k.py:2", "tensor"): 60,
        ("k.py:3", "vector"): 5,
    }
    # 10 before the load, 30 until its bytes are seen, 5 until the copy starts, 10 to drain.
    assert path.latency_ps == {
        ("k.py:1", "dma"): 10,
        ("k.py:2", "tensor"): 30,
        ("k.py:3", "vector"): 15,
    }
    assert sum(path.busy_ps.values()) + sum(path.latency_ps.values()) == trace.total_ps


def test_an_event_that_only_had_to_take_its_turn_waits_for_nobody():
    trace = pipeline_trace()
    causes = find_causes(trace)
    assert causes.row.tolist() == [-1, 0, 1, 2]
    assert causes.idle_ps.tolist() == [10, 130, 0, 195]


def test_an_empty_trace_has_no_path():
    trace = TraceBuilder().finish()
    causes = find_causes(trace)
    assert find_waits(trace, causes) == ()
    assert find_critical_path(trace, causes).events == 0
