from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation


@on_every_generation(
    "sequence_bounds",
    examples=12,
    ids=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    kind=st.sampled_from(["float32", "int32"]),
)
def test_each_element_gets_the_bounds_of_its_run(core, ids, kind):
    bench = Bench(core)
    dst = bench.empty((1, 2, len(ids)), kind)
    bench.run("sequence_bounds", dst=dst, segment_ids=bench.tile([ids], kind))
    starts, ends, place = [], [], 0
    for segment, run in groupby(ids):
        length = len(list(run))
        starts += [place if segment else len(ids)] * length
        ends += [place + length if segment else -1] * length
        place += length
    assert bench.values(dst).tolist() == [[starts, ends]]


@pytest.mark.parametrize(
    ("ids", "dst", "match"),
    [
        (((2, 4), "int32"), ((1, 2, 4), "int32"), r"segment_ids .* must be \[1, 4\]"),
        (((1, 4), "int32"), ((1, 4), "int32"), r"dst .* must be \[1, 8\]"),
        (((1, 4), "int8"), ((1, 2, 4), "int32"), "segment_ids .* is int8"),
    ],
)
def test_other_operands_are_refused(bench, ids, dst, match):
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("sequence_bounds", dst=bench.empty(*dst), segment_ids=bench.empty(*ids))


def test_its_time_grows_with_the_row(bench):
    named = {"dst": bench.empty((1, 2, 512)), "segment_ids": bench.empty((1, 512))}
    assert bench.form("sequence_bounds", **named).cost.cycles == 150 + 4 * 512
