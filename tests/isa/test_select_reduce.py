from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


@pytest.mark.parametrize("reverse", [False, True])
def test_select_reduce_chooses_and_keeps_the_maximum(bench, reverse):
    x, predicate, other = integers((4, 9)), integers((4, 9), 1, 0, 2), integers((4, 1), 2)
    dst, largest = bench.empty((4, 9)), bench.empty((4, 1))
    bench.run(
        "select_reduce",
        dst=dst,
        predicate=bench.tile(predicate, "uint8"),
        on_true=bench.tile(x),
        on_false=bench.tile(other),
        reduce_res=largest,
        reduce_cmd="reset_reduce",
        reverse_pred=reverse,
    )
    for p in range(4):
        row = [x[p, i] if bool(predicate[p, i]) != reverse else other[p, 0] for i in range(9)]
        np.testing.assert_array_equal(bench.values(dst)[p], row)
        assert bench.values(largest)[p, 0] == max(row)


def test_select_reduce_refuses_a_32_bit_predicate(bench):
    with pytest.raises(HardwareLimitError, match=r"predicate .* is uint32"):
        bench.form(
            "select_reduce",
            dst=bench.empty((4, 9)),
            predicate=bench.empty((4, 9), "uint32"),
            on_true=bench.empty((4, 9)),
            on_false=0.0,
        )
