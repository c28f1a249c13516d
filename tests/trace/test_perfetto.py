import gzip
import json
from decimal import Decimal

import pytest

from emuron.trace.perfetto import microseconds, to_perfetto
from emuron.trace.trace import TraceBuilder
from tests.trace.traces import model_trace, random_trace


def written(trace, path, **options):
    to_perfetto(trace, path, **options)
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return json.loads(content, parse_float=Decimal)


def test_every_record_has_the_fields_of_its_phase(tmp_path):
    events = written(model_trace(2), tmp_path / "t.json")["traceEvents"]
    needed = {
        "M": {"name", "pid", "tid", "args"},
        "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
        "C": {"name", "pid", "ts", "args"},
    }
    assert {e["ph"] for e in events} == set(needed)
    for event in events:
        assert needed[event["ph"]] <= set(event)


def test_slices_hold_every_event_with_exact_times(tmp_path):
    trace = model_trace(2)
    slices = [e for e in written(trace, tmp_path / "t.json")["traceEvents"] if e["ph"] == "X"]
    found = sorted((int(e["ts"] * 10**6), int(e["dur"] * 10**6), e["name"]) for e in slices)
    expected = sorted(
        (int(s), int(e - s), trace.labels[label])
        for s, e, label in zip(trace.start_ps, trace.end_ps, trace.label, strict=True)
    )
    assert found == expected
    assert sum(e["args"]["bytes"] for e in slices) == trace.bytes.sum()


def test_slices_come_in_order_of_time_and_never_overlap_on_a_track(tmp_path):
    trace = random_trace(11)
    events = written(trace, tmp_path / "t.json")["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    assert [e["ts"] for e in slices] == sorted(e["ts"] for e in slices)
    ends = {}
    for e in slices:
        assert e["ts"] >= ends.get(e["tid"], 0)
        ends[e["tid"]] = e["ts"] + e["dur"]


def test_tracks_have_names_and_engines_come_before_dma(tmp_path):
    builder = TraceBuilder()
    for queue in ("nc0/dma0", "nc0/tensor", "nc1/vector"):
        builder.add(queue, "x", 0, 1)
    events = written(builder.finish(), tmp_path / "t.json")["traceEvents"]
    names = {e["args"]["name"]: e for e in events if e["name"] == "thread_name"}
    order = {e["tid"]: e["args"]["sort_index"] for e in events if e["name"] == "thread_sort_index"}
    assert order[names["tensor"]["tid"]] < order[names["dma0"]["tid"]]
    assert names["vector"]["pid"] != names["tensor"]["pid"]
    processes = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert {"nc0", "nc1"} <= processes


def test_bandwidth_counter_holds_the_bytes_moved(tmp_path):
    trace = model_trace(2)
    events = written(trace, tmp_path / "t.json")["traceEvents"]
    samples = [e for e in events if e["ph"] == "C" and e["name"] == "HBM GB/s"]
    step = samples[1]["ts"] - samples[0]["ts"]
    # GB/s times microseconds are kilobytes.
    moved = sum(float(e["args"]["value"]) for e in samples) * float(step) * 1000
    assert moved == pytest.approx(int(trace.bytes.sum()), rel=1e-6)


def test_repeats_are_written_out_or_marked(tmp_path):
    trace = model_trace(repeated=True)
    whole = written(trace, tmp_path / "a.json.gz")["traceEvents"]
    short = written(trace, tmp_path / "b.json.gz", most_events=10)["traceEvents"]
    assert sum(e["ph"] == "X" for e in whole) == trace.multiplicity().sum()
    [mark] = [e for e in short if e.get("cat") == "repeat"]
    assert mark["name"] == "11 more"
    assert {e["args"].get("times") for e in short if e["ph"] == "X"} == {None, 12}


def test_the_same_trace_gives_the_same_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        to_perfetto(model_trace(1), tmp_path / name)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_hostile_names_stay_json(tmp_path):
    builder = TraceBuilder()
    builder.add('ten"sor', 'a\\"\n', 0, 1, group="\u2028</script>")
    builder.counter("sbuf_bytes", 0, 1)
    assert written(builder.finish(), tmp_path / "t.json")["traceEvents"]


def test_microseconds_keep_every_picosecond():
    assert microseconds(1) == "0.000001"
    assert microseconds(9_007_199_254_740_993) == "9007199254.740993"
