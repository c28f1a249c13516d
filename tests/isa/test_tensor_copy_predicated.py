from __future__ import annotations

import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("number", [False, True])
def test_a_predicated_copy_leaves_the_rest_alone(bench, reverse, number):
    old, new, predicate = integers((3, 4)), integers((3, 4), 1), integers((3, 4), 2, 0, 2)
    dst = bench.tile(old)
    bench.run(
        "tensor_copy_predicated",
        dst=dst,
        src=7.0 if number else bench.tile(new),
        predicate=bench.tile(predicate, "uint8"),
        reverse_pred=reverse,
    )
    for p in range(3):
        for i in range(4):
            chosen = (predicate[p, i] != 0) != reverse
            expected = (7 if number else new[p, i]) if chosen else old[p, i]
            assert bench.values(dst)[p, i] == expected


def test_a_predicated_copy_refuses_a_float_predicate(bench):
    with pytest.raises(HardwareLimitError, match=r"predicate .* is float32"):
        bench.form(
            "tensor_copy_predicated",
            dst=bench.empty((3, 4)),
            src=bench.empty((3, 4)),
            predicate=bench.empty((3, 4)),
        )
