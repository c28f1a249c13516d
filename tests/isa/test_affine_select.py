from __future__ import annotations

import pytest

from tests.isa.bench import integers
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
