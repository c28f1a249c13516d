"""Where the engine learns what a step takes."""

import pytest

from emuron.errors import UsageError
from emuron.serving.step_timer import ModelStepTimer, TableStepTimer


def test_a_table_is_read_by_token_bucket_and_by_batch_bucket() -> None:
    timer = TableStepTimer({128: 0.1, 256: 0.2}, {1: 0.01, 4: 0.02})
    assert timer.step_seconds("prefill", 1, 256, 0) == 0.2
    assert timer.step_seconds("decode", 4, 1, 512) == 0.02


def test_a_bucket_missing_from_the_table_is_named() -> None:
    timer = TableStepTimer({128: 0.1}, {1: 0.01})
    with pytest.raises(UsageError, match=r"no decode bucket 2; it has \[1\]"):
        timer.step_seconds("decode", 2, 1, 128)


def test_a_graph_is_timed_once_a_shape() -> None:
    asked: list[tuple[object, ...]] = []

    def time_graph(*shape: object) -> float:
        asked.append(shape)
        return float(len(asked))

    timer = ModelStepTimer(time_graph)
    times = [timer.step_seconds("decode", batch, 1, 128) for batch in (1, 2, 1, 2)]
    assert times == [1.0, 2.0, 1.0, 2.0]
    assert asked == [("decode", 1, 1, 128), ("decode", 2, 1, 128)]
