import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emuron.compiler.compile import compile_model
from emuron.compiler.frontends.zoo import open_model
from emuron.errors import UsageError
from emuron.hardware.catalog import instance
from emuron.planner.inference_rows import _configuration
from emuron.planner.measurements import Measurement
from emuron.planner.prediction import Prediction, rank_correlation, summarize
from emuron.planner.validate import Predictor

ROW = Measurement(
    id="c1",
    model="all-MiniLM-L6-v2",
    instance="inf2.xlarge",
    metric="latency_p50",
    unit="ms",
    value=0.4,
    batch=1,
    sequence=128,
    run_mode="Data Parallel",
    dtype="FP32",
    autocast="Matmult-BF16",
)
POSITIVE = st.floats(1e-3, 1e6)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


def test_latency_and_throughput_are_those_of_the_compiled_model(predictor: Predictor) -> None:
    compiled = compile_model(open_model("all-minilm-l6-v2", weights=False), on="inf2.xlarge")
    assert predictor.predict(ROW).predicted == pytest.approx(compiled.latency.total_us / 1000)
    rate = replace(ROW, metric="throughput", unit="inferences/s")
    assert predictor.predict(rate).predicted == pytest.approx(compiled.throughput_per_s)


def test_a_latency_is_given_in_the_unit_of_the_row(predictor: Predictor) -> None:
    in_ms = predictor.predict(ROW).predicted
    in_us = predictor.predict(replace(ROW, unit="us")).predicted
    assert in_ms is not None
    assert in_us == pytest.approx(in_ms * 1000)


def test_encoders_were_measured_with_two_workers_on_any_instance(predictor: Predictor) -> None:
    rate = replace(ROW, metric="throughput", unit="inferences/s")
    small, large = (
        predictor.predict(r).predicted for r in (rate, replace(rate, instance="inf2.24xlarge"))
    )
    assert small == pytest.approx(large)


def test_the_99th_percentile_adds_the_tail_of_the_host(predictor: Predictor) -> None:
    median, tail = (
        predictor.predict(replace(ROW, metric=metric)).predicted
        for metric in ("latency_p50", "latency_p99")
    )
    assert median is not None
    assert tail == pytest.approx(median + instance(ROW.instance).host.tail_us / 1000)


def test_a_relative_error_is_predicted_over_measured_less_one() -> None:
    assert Prediction(ROW, 0.5).relative_error == pytest.approx(0.25)
    assert Prediction(ROW, None, "why").relative_error is None


def test_a_configuration_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def record(wanted: object, target: object) -> object:
        compiled.append(wanted)
        raise UsageError("not compiled in this test")

    monkeypatch.setattr("emuron.planner.inference_rows._compile", record)
    predictor = Predictor()
    same = (ROW, replace(ROW, metric="throughput", unit="inferences/s"), replace(ROW, cores=1))
    notes = {predictor.predict(row).note for row in same}
    assert notes == {"not compiled in this test"}
    assert len(compiled) == 1
    predictor.predict(replace(ROW, batch=2))
    predictor.predict(replace(ROW, instance="trn1.2xlarge"))
    assert len(compiled) == 3


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"instance": "g5.xlarge"}, "instance 'g5.xlarge' is not in the catalog"),
        ({"cores": 3}, "3 cores stated, but inf2.xlarge has 2"),
        ({"tensor_parallel": 8}, "tensor parallelism over 8 cores is not modelled yet"),
        ({"run_mode": "Model Pipeline"}, "run mode 'Model Pipeline' is not modelled"),
        ({"model": "alexnet", "task": "Image Classification"}, "task: Image Classification"),
        ({"model": "Llama-2-7b"}, "llama-2-7b, a decoder model, has no latency_p50 to predict"),
        ({"batch": None}, "no batch stated"),
        ({"batch": None, "sequence": None}, "no batch and sequence length stated"),
        ({"sequence": 100_000}, "100000"),
        ({"metric": "compile_time"}, "only latency_p50, latency_p99 and throughput are"),
        ({"unit": "hours"}, "unit 'hours' of latency_p50 is unknown"),
        ({"value": 0.0}, "a measured latency_p50 of 0 cannot be right"),
        ({"dtype": "int3"}, "model dtype 'int3'"),
        ({"autocast": "some-bf16"}, "some"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(
    predictor: Predictor, changes: dict[str, object], note: str
) -> None:
    prediction = predictor.predict(replace(ROW, **changes))
    assert prediction.predicted is None
    assert note in prediction.note


def test_a_model_is_found_by_the_name_in_brackets_and_by_its_base(predictor: Predictor) -> None:
    plain = predictor.predict(ROW)
    bracketed = predictor.predict(replace(ROW, model="MiniLM (owner/all-MiniLM-L6-v2)"))
    assert (bracketed.predicted, bracketed.note) == (plain.predicted, plain.note)
    tuned = predictor.predict(replace(ROW, model="all-minilm-l6-v2-finetuned-mrpc"))
    assert tuned.predicted == plain.predicted
    assert "predicted as all-minilm-l6-v2" in tuned.note


def test_a_prediction_says_what_it_takes_for_granted(predictor: Predictor) -> None:
    unsaid = predictor.predict(replace(ROW, autocast=""))
    assert "auto-cast not stated, matmult-bf16 assumed" in unsaid.note
    doubted = predictor.predict(replace(ROW, remark="SUSPECT: 0.04 batches in flight"))
    assert "suspect" in doubted.note


def test_an_instance_family_without_fitted_rows_is_extrapolated(predictor: Predictor) -> None:
    elsewhere = predictor.predict(replace(ROW, instance="trn2.48xlarge"))
    assert "extrapolated: nothing was fitted on trn2" in elsewhere.note


def predictions(pairs: list[tuple[float | None, float]]) -> list[Prediction]:
    return [Prediction(replace(ROW, value=measured), predicted) for predicted, measured in pairs]


@given(st.lists(st.tuples(st.one_of(st.none(), POSITIVE), POSITIVE), min_size=1, max_size=20))
def test_a_summary_agrees_with_sorting_and_counting(
    pairs: list[tuple[float | None, float]],
) -> None:
    summary = summarize(predictions(pairs))
    errors = sorted(abs(p - m) / m for p, m in pairs if p is not None)
    assert (summary.rows, summary.predicted) == (len(pairs), len(errors))
    if not errors:
        assert summary.median_abs_error is summary.p90_abs_error is summary.spearman is None
        return
    middle = (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
    place = 0.9 * (len(errors) - 1)
    low, high = errors[math.floor(place)], errors[math.ceil(place)]
    p90 = low + (high - low) * (place - math.floor(place))
    # Relative errors near 0 cancel in either formula, hence an absolute bound beside the relative.
    assert summary.median_abs_error == pytest.approx(middle, rel=1e-9, abs=1e-9)
    assert summary.p90_abs_error == pytest.approx(p90, rel=1e-9, abs=1e-9)


def naive_rank(values: list[float], value: float) -> float:
    return sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2


def naive_correlation(left: list[float], right: list[float]) -> float:
    x, y = ([naive_rank(side, v) for v in side] for side in (left, right))
    mean = (len(x) + 1) / 2
    covariance = sum((a - mean) * (b - mean) for a, b in zip(x, y, strict=True))
    spread = math.prod(math.fsum((a - mean) ** 2 for a in side) for side in (x, y))
    return covariance / math.sqrt(spread)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=15))
def test_rank_correlation_gives_ties_their_mean_rank(pairs: list[tuple[int, int]]) -> None:
    left, right = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    found = rank_correlation(left, right)
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(naive_correlation(left, right))


@given(st.lists(POSITIVE, min_size=2, max_size=10, unique=True))
def test_rank_correlation_of_equal_orders_is_one(values: list[float]) -> None:
    assert rank_correlation(values, [math.log(v) for v in values]) == pytest.approx(1) or (
        len({math.log(v) for v in values}) < len(values)
    )
    assert rank_correlation(values, [-v for v in values]) == pytest.approx(-1)


def test_sequences_of_different_lengths_have_no_correlation() -> None:
    with pytest.raises(UsageError, match="1 values with 2"):
        rank_correlation([1.0], [1.0, 2.0])


def test_texts_beside_images_that_no_row_states_are_noted() -> None:
    row = replace(ROW, model="openai/clip-vit-base-patch32", sequence=None)
    _, notes = _configuration(row, instance(row.instance))
    assert notes == ["texts not stated, the zoo's number of 9 tokens assumed"]
    _, notes = _configuration(replace(row, sequence=16), instance(row.instance))
    assert notes == []
