import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emuron.planner.measurements import Measurement
from emuron.planner.validate import Predictor

ROW = Measurement(
    id="m1",
    model="all-minilm-l6-v2",
    instance="inf2.xlarge",
    metric="latency_p50",
    unit="ms",
    value=0.4,
    batch=1,
    sequence=64,
)


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "docs" / "generate_accuracy.py"))


def test_the_accuracy_page_shows_rows_reasons_and_what_was_fitted(script: dict[str, Any]) -> None:
    rows = [ROW, *(replace(ROW, id=f"p{n}", tensor_parallel=n) for n in range(2, 8))]
    page = script["page"](Predictor(), rows, ())
    assert "| m1 | all-minilm-l6-v2 | inf2.xlarge | 1 | 64 | latency_p50 | ms | 0.4 |" in page
    assert "| 6 | tensor parallelism is not modelled yet |" in page
    assert "| inf2 | `host.framework_launch_us` |" in page
    assert "Rows that nothing was fitted on" not in page


def test_the_line_through_latencies_at_batch_1_finds_the_launch_back(
    script: dict[str, Any],
) -> None:
    predictor = Predictor()
    rows = [replace(ROW, autocast="Matmult-BF16", sequence=length) for length in (16, 64, 128)]
    exact = []
    for row in rows:
        latency = predictor.latency(row)
        simulated_us = latency.total_us - latency.launch_us
        exact.append(replace(row, value=(77 + 1.25 * simulated_us) / 1000))
    assert "| inf2 | 3 | 77 | 1.25 |" in script["host_tables"](predictor, exact)
    in_us = [replace(row, value=row.value * 1000, unit="us") for row in exact]
    assert "| inf2 | 3 | 77 | 1.25 |" in script["host_tables"](predictor, in_us)
