import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emuron.planner.measurements import Measurement
from emuron.planner.prediction import Prediction
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
    assert "| inferentia2 | `collectives.ring_hop_us` |" in page
    assert "| NeuronCore-v1 | `" in page
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


def test_rows_that_a_parameter_was_fitted_on_are_named_by_its_source(
    script: dict[str, Any],
) -> None:
    launch = script["fitted_rows"]("host.framework_launch_us")
    assert {"c131", "c194"} <= launch <= script["fitted_rows"]()
    unseen = script["unseen_table"](
        [
            Prediction(replace(ROW, id=id), predicted)
            for id, predicted in (("c131", 0.8), ("z", 0.5))
        ]
    )
    assert "| all-minilm-l6-v2 | 1 | 25.0% |" in unseen


def test_an_encoder_is_left_out_of_the_line_that_predicts_it(script: dict[str, Any]) -> None:
    predictor = Predictor()
    names = ("all-minilm-l6-v2", "all-minilm-l12-v2", "distilbert-base-uncased")
    rows = [replace(ROW, model=name) for name in names]
    on_line = [
        replace(row, value=(55 + latency.total_us - latency.launch_us) / 1000)
        for row in rows
        for latency in (predictor.latency(row),)
    ]
    found = script["left_out_table"](predictor, on_line)
    assert found.count("| 55 |") == 3
    assert found.count("+0.0%") + found.count("-0.0%") == 3
