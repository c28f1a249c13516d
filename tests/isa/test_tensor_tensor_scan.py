from __future__ import annotations

import pytest

from tests.isa.bench import integers


@pytest.mark.parametrize("reverse", [False, True])
def test_tensor_tensor_scan_carries_its_state_in_fp32(bench, reverse):
    a, b, start = integers((3, 6), low=-2, high=3), integers((3, 6), 1), integers((3, 1), 2)
    dst = bench.empty((3, 6))
    bench.run(
        "tensor_tensor_scan",
        dst=dst,
        data0=bench.tile(a),
        data1=bench.tile(b),
        initial=bench.tile(start),
        op0="multiply",
        op1="subtract",
        reverse1=reverse,
    )
    for p in range(3):
        state = start[p, 0]
        for i in range(6):
            product = a[p, i] * state
            state = b[p, i] - product if reverse else product - b[p, i]
            assert bench.values(dst)[p, i] == state
