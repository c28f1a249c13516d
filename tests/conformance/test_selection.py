"""What a conformance run chooses, mends and writes down."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emuron.numerics.dtypes import float8_e4m3fn_x4
from tools.conformance.defects import DEFECTS, without_repeated_docstring
from tools.conformance.inputs import leave_large_random_arrays_unfilled
from tools.conformance.records import CaseRecord, flat, plain, read_records
from tools.conformance.selection import shares, spread
from tools.conformance.suites import VISIBLE, read_suites


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 60))
def test_shares_are_within_what_there_is_and_no_function_goes_without(counts, total):
    given_out = shares(counts, total)
    assert all(1 <= share <= count for share, count in zip(given_out, counts, strict=True))
    assert sum(given_out) <= max(total, len(counts))
    if sum(counts) <= total:
        assert given_out == counts


@given(st.integers(1, 200), st.integers(1, 200))
def test_a_spread_is_in_order_without_repetition_and_begins_with_the_first(length, count):
    taken = spread(range(length), min(count, length))
    assert taken == sorted(set(taken))
    assert taken[0] == 0
    assert len(taken) == min(count, length)


def test_a_docstring_whose_end_is_there_twice_is_mended():
    broken = (
        'def f():\n    """Say.\n\n        More.\n    """\n\n        More.\n    """\n    return 1\n'
    )
    scope: dict[str, object] = {}
    exec(without_repeated_docstring(broken), scope)
    assert scope["f"]() == 1


def test_source_that_compiles_is_left_alone():
    assert without_repeated_docstring("x = 1\n") == "x = 1\n"


class Colour(enum.Enum):
    RED = 7


@dataclass
class Options:
    colour: Colour
    size: int


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Colour.RED, "RED"),
        (np.zeros((2, 3), ml_dtypes.bfloat16), "bfloat16[2, 3]"),
        (np.zeros(4, float8_e4m3fn_x4), "float8_e4m3fn_x4[4]"),
        (np.float32(1.5), 1.5),
        ((1, None, True), [1, None, True]),
        (Options(Colour.RED, 3), {"colour": "RED", "size": 3}),
        (len, "len"),
    ],
)
def test_values_are_written_as_json_can_hold_them(value, shown):
    assert plain(value) == shown


def test_nested_parameters_lie_beside_the_others():
    assert flat({"a": 1, "b": {"c": {"d": 2}}}) == {"a": 1, "d": 2}


def test_records_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "cases.jsonl"
    assert read_records(path) == []
    record = CaseRecord("f.py", "test_a[1]", "a", params={"n": 1}, outcome="passed", seconds=0.5)
    record.append_to(path)
    record.append_to(path)
    assert read_records(path) == [record, record]
    assert json.loads(path.read_text().splitlines()[0])["kernel"] == "a"


def test_the_visible_list_names_every_suite_and_defects_have_reasons(monkeypatch):
    suites = {suite.name: suite for suite in read_suites(VISIBLE)}
    assert list(suites) == ["nki-library", "aws-neuron-sdk", "nki-samples"]
    monkeypatch.delenv("EMURON_NKI_LIBRARY", raising=False)
    assert "EMURON_NKI_LIBRARY is not set" in suites["nki-library"].why_not()
    monkeypatch.setenv("EMURON_NKI_LIBRARY", "/nowhere")
    assert "/nowhere is no folder" in suites["nki-library"].why_not()
    assert all(defect.reason.endswith(".") for defect in DEFECTS)


def test_large_random_arrays_stay_zero_and_small_ones_keep_their_numbers(monkeypatch):
    names = ("random", "random_sample", "standard_normal", "normal", "uniform", "randint")
    for name in (*names, "rand", "randn", "default_rng"):
        monkeypatch.setattr(np.random, name, getattr(np.random, name))
    expected = np.random.default_rng(3).normal(0, 1, (2, 5))
    leave_large_random_arrays_unfilled(10)
    rng = np.random.default_rng(3)
    assert (rng.normal(0, 1, (2, 5)) == expected).all()
    assert not rng.uniform(1, 2, size=(3, 4)).any()
    assert not np.random.randn(3, 4).any()
    assert np.random.randint(1, 5, (3, 4), dtype=np.int32).dtype == np.int32
    assert np.random.uniform(1, 2, 10).all()
