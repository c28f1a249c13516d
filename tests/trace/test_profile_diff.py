"""Differences of profiles: lines matched by text, totals, hints."""

import json

import pytest

from emuron.errors import UsageError
from emuron.trace.profile_diff import diff_profiles, load_profile


def line(name, source, critical, busy=None, moved=0):
    return {
        "line": name,
        "source": source,
        "share_us": critical,
        "critical_us": critical,
        "latency_us": 0.5,
        "busy_us": busy or {},
        "dma_bytes": moved,
        "instructions": {"dma_copy": 4},
    }


def profile(time_us, lines, hints=(), busy=3.0):
    return {
        "format": 1,
        "time_us": time_us,
        "instructions": 8,
        "dma_bytes": 100,
        "hbm_bytes": 100,
        "flops": 0,
        "engines": [{"kind": "vector", "busy_us": busy}],
        "hints": [{"rule": rule, "line": at} for rule, at in hints],
        "lines": lines,
    }


def test_a_line_that_moved_is_still_the_same_line():
    before = profile(10.0, [line("k.py:7", "load(x)", 6.0), line("k.py:9", "store(x)", 1.0)])
    after = profile(8.0, [line("k.py:9", "load(x)", 4.0), line("k.py:11", "store(x)", 1.0)])
    found = diff_profiles(before, after)
    assert found.totals["time_us"].difference == -2.0
    first, second = found.lines
    assert (first.line_before, first.line_after, first.critical_us.difference) == (
        "k.py:7",
        "k.py:9",
        -2.0,
    )
    assert second.critical_us.difference == 0


def test_equal_texts_are_matched_in_order():
    before = profile(1.0, [line("k.py:5", "nop()", 1.0), line("k.py:3", "nop()", 3.0)])
    after = profile(1.0, [line("k.py:13", "nop()", 3.0), line("k.py:15", "nop()", 1.0)])
    assert all(change.critical_us.difference == 0 for change in diff_profiles(before, after).lines)


def test_new_and_gone_lines_count_from_nothing():
    found = diff_profiles(
        profile(1.0, [line("k.py:1", "old()", 2.0)]), profile(1.0, [line("k.py:1", "new()", 5.0)])
    )
    assert [(c.line_before, c.line_after) for c in found.lines] == [
        (None, "k.py:1"),
        ("k.py:1", None),
    ]
    assert [c.critical_us.difference for c in found.lines] == [5.5, -2.5]


def test_hints_that_went_and_came_are_named():
    before = profile(1.0, [], [("single-buffered", "k.py:1")])
    after = profile(1.0, [], [("fp32-matmuls", "k.py:2")])
    found = diff_profiles(before, after).to_dict()
    assert found["hints_gone"] == ["single-buffered at k.py:1"]
    assert found["hints_new"] == ["fp32-matmuls at k.py:2"]
    assert found["engines"]["vector"]["ratio"] == 1.0


@pytest.mark.parametrize("text", ["{}", "[1]", "not json", '{"format": 99, "lines": []}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"a\.json is no profile"):
        load_profile(path)


def test_a_profile_is_read_back(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(profile(1.0, [])))
    assert load_profile(path)["time_us"] == 1.0
