from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
)
from tests.isa.test_alu import PYTHON

PATTERN = ((10, 3), (-2, 4))


def _affine(p, i, offset, channel):
    outer, inner = divmod(i, 4)
    return offset + channel * p + 10 * outer - 2 * inner


@pytest.mark.parametrize(
    "op", ["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"]
)
def test_affine_select_compares_the_affine_value_with_zero(bench, op):
    x = integers((5, 12))
    dst = bench.empty((5, 12))
    bench.run(
        "affine_select",
        dst=dst,
        pattern=PATTERN,
        channel_multiplier=-2,
        on_true_tile=bench.tile(x),
        on_false_value=-100.0,
        cmp_op=op,
        offset=-4,
    )
    for p in range(5):
        for i in range(12):
            holds = PYTHON[op](_affine(p, i, -4, -2), 0)
            assert bench.values(dst)[p, i] == (x[p, i] if holds else -100)


@on_every_generation(
    "affine_select",
    rows=st.integers(1, 6),
    pattern=st.tuples(
        st.tuples(st.integers(-3, 3), st.integers(1, 3)),
        st.tuples(st.integers(-3, 3), st.integers(1, 3)),
    ),
    offset=st.integers(-5, 5),
    channel=st.integers(-3, 3),
    op=st.sampled_from(["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"]),
    kind=st.sampled_from(KINDS),
    lay=st.tuples(layouts, layouts),
)
def test_it_selects_by_the_sign_of_the_affine_value(
    core, rows, pattern, offset, channel, op, kind, lay
):
    bench = Bench(core)
    (outer, times), (inner, count) = pattern
    x = small((rows, times * count), kind)
    dst = bench.room(x.shape, lay[0])
    bench.run(
        "affine_select",
        dst=dst,
        pattern=pattern,
        channel_multiplier=channel,
        on_true_tile=bench.lay(x, lay[1], kind),
        on_false_value=-100.0,
        cmp_op=op,
        offset=offset,
    )
    for p in range(rows):
        for i in range(times * count):
            value = offset + channel * p + outer * (i // count) + inner * (i % count)
            assert bench.seen(dst)[p, i] == (x[p, i] if PYTHON[op](value, 0) else -100)


def test_limits_and_cost(bench):
    tiles = {"dst": bench.empty((5, 12)), "on_true_tile": bench.empty((5, 12))}
    named = {"channel_multiplier": 1, "on_false_value": 0.0}
    form = bench.form("affine_select", **tiles, **named, pattern=PATTERN)
    assert form.cost.cycles == 150 + 12  # ISA v2.26
    with pytest.raises(HardwareLimitError, match="cmp_op=add is not possible"):
        bench.form("affine_select", **tiles, **named, pattern=PATTERN, cmp_op="add")
    with pytest.raises(HardwareLimitError, match="pattern has 5 dimensions"):
        bench.form("affine_select", **tiles, **named, pattern=((1, 1),) * 5)


@pytest.mark.parametrize(
    ("value", "stored"), [(-1.5, -2), (1e30, 2**31 - 1), (-math.inf, -(2**31))]
)
def test_integers_of_one_type_keep_all_bits(bench, value, stored):
    x = [[2**24 + 1, 5]]
    dst = bench.empty((1, 2), "int32")
    bench.run(
        "affine_select",
        dst=dst,
        pattern=((1, 2),),
        channel_multiplier=0,
        on_true_tile=bench.tile(x, "int32"),
        on_false_value=value,
    )
    assert bench.read(dst).tolist() == [[2**24 + 1, stored]]
