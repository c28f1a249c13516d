"""Every figure of ledger.toml is met; large batches and decoders, slow, by `make test-all`."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from emuron.planner.measurements import Measurement
from emuron.planner.validate import Predictor

FIGURES = tomllib.loads(Path(__file__).with_name("ledger.toml").read_text(encoding="utf-8"))[
    "figure"
]


def marked(figure: dict[str, Any]) -> Any:
    name = "-".join(str(figure[k]) for k in ("model", "instance", "batch", "metric"))
    marks = [pytest.mark.slow] if figure["batch"] > 1 or "tp" in figure else []
    return pytest.param(figure, id=name, marks=marks)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


@pytest.mark.parametrize("figure", [*map(marked, FIGURES)])
def test_a_published_figure_is_met_within_its_tolerance(
    predictor: Predictor, figure: dict[str, Any]
) -> None:
    row = Measurement(
        id="",
        model=figure["model"],
        instance=figure["instance"],
        metric=figure["metric"],
        unit=figure["unit"],
        value=figure["published"],
        batch=figure["batch"],
        sequence=figure["sequence"],
        run_mode="Tensor Parallel" if "tp" in figure else "Data Parallel",
        dtype="FP16" if "tp" in figure else "FP32",
        autocast="Matmult-BF16",
        tensor_parallel=figure.get("tp"),
        input_tokens=figure.get("input"),
        output_tokens=figure.get("output"),
    )
    prediction = predictor.predict(row)
    assert prediction.relative_error is not None, prediction.note
    assert abs(prediction.relative_error) <= figure["tolerance"]
