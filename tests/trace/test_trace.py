import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emuron.errors import UsageError
from emuron.trace.archive import load_trace, save_trace
from emuron.trace.repetition import unfold
from emuron.trace.trace import COLUMN_TYPES, Repeat, TraceBuilder
from tests.trace.traces import model_trace, random_trace


def test_text_form_shows_every_name_event_and_repeat():
    builder = TraceBuilder({"instance": "inf2.xlarge"})
    builder.add("tensor", "nc_matmul", 10, 30, group="layer0", flops=7)
    builder.add("dma0", "dma_copy", 0, 10, bytes=64)
    builder.counter("sbuf_bytes", 5, 128)
    builder.repeat(0, 30, 4, first=0, stop=2)
    assert builder.finish().to_text() == (
        "trace total_ps=120 events=2\n"
        'metadata {"instance": "inf2.xlarge"}\n'
        'queue 0 "tensor"\nqueue 1 "dma0"\n'
        'label 0 "nc_matmul"\nlabel 1 "dma_copy"\n'
        'group 0 "layer0"\ngroup 1 ""\n'
        "repeat start_ps=0 period_ps=30 count=4 rows=0:2\n"
        'counter "sbuf_bytes" 5:128\n'
        "events queue start_ps end_ps label group bytes flops blocker lag_ps\n"
        "0 10 30 0 0 0 7 -1 0\n1 0 10 1 1 64 0 -1 0\n"
    )


def test_columns_are_frozen_and_of_the_stated_types():
    trace = model_trace()
    for name, dtype in COLUMN_TYPES.items():
        assert getattr(trace, name).dtype == dtype
        with pytest.raises(ValueError, match="read-only"):
            getattr(trace, name)[0] = 1


def test_events_added_as_columns_equal_events_added_one_by_one():
    one, many = TraceBuilder(), TraceBuilder()
    for i in range(5):
        one.add("tensor", "x", i, i + 2, group="g", flops=i)
    ids = many.queue("tensor"), many.label("x"), many.group("g")
    start = np.arange(5)
    assert many.add_columns(ids[0], start, start + 2, ids[1], ids[2], flops=start) == 0
    assert one.finish().to_text() == many.finish().to_text()


@given(st.integers(0, 10**9))
def test_multiplicity_and_total_equal_the_written_out_trace(seed):
    trace = random_trace(seed)
    whole = unfold(trace)
    assert len(whole) == sum(trace.multiplicity().tolist())
    assert trace.total_ps == max(whole.end_ps.tolist())
    moved = sum(
        b * n for b, n in zip(trace.bytes.tolist(), trace.multiplicity().tolist(), strict=True)
    )
    assert moved == sum(whole.bytes.tolist())


def test_a_repeat_by_time_takes_the_events_that_start_in_its_period():
    builder = TraceBuilder()
    for start in (0, 10, 19, 20):
        builder.add("tensor", "x", start, start + 1)
    builder.repeat(10, 10, 3)
    trace = builder.finish()
    assert trace.multiplicity().tolist() == [1, 3, 3, 1]
    assert unfold(trace).start_ps.tolist() == [0, 10, 19, 20, 20, 29, 30, 39]


def test_nested_repeats_multiply():
    inner = TraceBuilder()
    inner.add("tensor", "x", 0, 5)
    inner.repeat(0, 5, 4, first=0, stop=1)
    outer = TraceBuilder()
    outer.extend(inner.finish(), 100, count=3)
    trace = outer.finish()
    assert trace.multiplicity().tolist() == [12]
    assert trace.total_ps == 160
    assert trace.repeats == (Repeat(100, 20, 3, 0, 1), Repeat(100, 5, 4, 0, 1))


def test_writing_out_more_than_the_limit_is_refused_with_both_numbers():
    builder = TraceBuilder()
    builder.add("tensor", "x", 0, 5)
    builder.repeat(0, 5, 10**9, first=0, stop=1)
    with pytest.raises(UsageError, match="1000000000 events, more than the 1000000"):
        unfold(builder.finish())


@pytest.mark.parametrize(
    ("start", "end", "message"), [(5, 4, "runs from 5 to 4 ps"), (-1, 4, "runs from -1 to 4 ps")]
)
def test_an_event_that_ends_before_it_starts_is_refused(start, end, message):
    builder = TraceBuilder()
    builder.add("tensor", "x", start, end)
    with pytest.raises(UsageError, match=message):
        builder.finish()


@pytest.mark.parametrize(
    "repeat", [Repeat(0, 5, 0), Repeat(0, 0, 2), Repeat(0, 5, 2, 0, 9), Repeat(0, 5, 2, 3, 1)]
)
def test_a_repeat_outside_the_trace_or_of_no_length_is_refused(repeat):
    builder = TraceBuilder()
    builder.add("tensor", "x", 0, 5)
    builder.repeat(*repeat[:3], first=repeat.first, stop=repeat.stop)
    with pytest.raises(UsageError, match="is no repeat of a trace of 1 events"):
        builder.finish()


@pytest.mark.parametrize("trace", [model_trace(repeated=True), TraceBuilder().finish()])
def test_an_archive_gives_the_trace_back(trace, tmp_path):
    save_trace(trace, tmp_path / "run.npz")
    assert load_trace(tmp_path / "run.npz").to_text() == trace.to_text()
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_an_archive_with_pickled_objects_is_refused(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"any": "object"}], dtype=object))
    with pytest.raises(UsageError, match="is no trace"):
        load_trace(path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_refused(content, tmp_path):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.npz is no trace"):
        load_trace(tmp_path / "x.npz")


def test_an_archive_whose_columns_point_outside_the_names_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    save_trace(model_trace(1), path)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["label"] = arrays["label"] + 100
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match="column 'label' holds"):
        load_trace(path)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        save_trace(model_trace(1), tmp_path / "nowhere" / "x.npz")
