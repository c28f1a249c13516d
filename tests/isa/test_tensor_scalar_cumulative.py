from __future__ import annotations

from tests.isa.bench import integers


def test_tensor_scalar_cumulative_writes_the_running_result(bench):
    x = integers((3, 6))
    dst = bench.empty((3, 6))
    bench.run(
        "tensor_scalar_cumulative",
        dst=dst,
        src=bench.tile(x),
        op0="multiply",
        op1="add",
        imm0=2.0,
        imm1=5.0,
        reduce_cmd="load_reduce",
    )
    for p in range(3):
        state = 5.0
        for i in range(6):
            state += 2 * x[p, i]
            assert bench.values(dst)[p, i] == state
