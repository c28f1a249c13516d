"""Rows of models that generate text: buckets, sums over steps, and what each metric counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emuron.planner.generation_rows import Generation
from emuron.planner.measurements import Measurement
from emuron.planner.validate import Predictor
from emuron.serving.step_timer import ModelStepTimer

ROW = Measurement(
    id="g1",
    model="Qwen3-0.6B",
    instance="inf2.48xlarge",
    metric="tpot_p50",
    unit="ms",
    value=5.0,
    batch=1,
    sequence=256,
    tensor_parallel=8,
    run_mode="Tensor Parallel",
    dtype="FP16",
    autocast="Matmult-BF16",
    input_tokens=100,
    output_tokens=156,
    weight_dtype="bf16",
)


def generation(prompt: int, output: int, sequence: int = 512, batch: int = 2) -> Generation:
    def steps(kind: str, batch: int, tokens: int, context: int) -> float:
        return 1000.0 + tokens if kind == "prefill" else float(context)

    return Generation(ModelStepTimer(steps), batch, prompt, output, sequence)


def test_a_prompt_is_padded_to_its_bucket() -> None:
    assert generation(128, 10).value("ttft_p50") == 1128
    assert generation(129, 10).value("ttft_p50") == 1256
    assert generation(300, 10, sequence=384).value("ttft_p50") == 1384


def test_a_step_reads_the_cache_up_to_the_bucket_of_its_position() -> None:
    assert generation(126, 5).steps_s == [128, 128, 256, 256]


def test_the_median_step_is_the_median_and_the_rate_is_that_of_the_whole() -> None:
    made = generation(120, 101)
    total = 1128 + 8 * 128 + 92 * 256
    assert made.value("tpot_p50") == 256
    assert made.value("itl_mean") == pytest.approx((8 * 128 + 92 * 256) / 100)
    assert made.value("e2el") == total
    assert made.value("token_throughput") == pytest.approx(2 * 101 / total)


def test_some_tables_count_prompts_too() -> None:
    made = generation(120, 101)
    assert made.value("total_token_throughput") == pytest.approx(2 * 221 / made.total_s)
    assert made.value("latency_per_prompt_and_output_token_p50") == made.total_s / 221


def test_one_token_takes_the_time_of_the_prompt() -> None:
    assert generation(128, 1).value("tpot_p50") == 1128


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"output_tokens": None}, "no number of prompt and output tokens stated"),
        ({"sequence": 128}, "100 prompt and 156 output tokens exceed the sequence of 128"),
        ({"batch": None}, "no batch stated"),
        ({"dtype": "int3"}, "model dtype 'int3' is not understood"),
        ({"tensor_parallel": 25}, "24 logical cores"),
        ({"model": "BERT (bert-base-uncased)"}, "has no tpot_p50 to predict"),
        ({"unit": "hours"}, "unit 'hours' of tpot_p50 is unknown"),
        ({"run_mode": "Model Pipeline"}, "run mode 'Model Pipeline' of a decoder"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(changes: dict[str, object], note: str) -> None:
    prediction = Predictor().predict(replace(ROW, **changes))
    assert prediction.predicted is None
    assert note in prediction.note


@pytest.mark.torch
def test_a_model_without_a_native_decoder_says_so() -> None:
    pytest.importorskip("torch")
    prediction = Predictor().predict(replace(ROW, model="mamba-130m"))
    assert prediction.predicted is None
    assert "no native decoder" in prediction.note


@pytest.mark.slow
def test_metrics_of_one_configuration_agree() -> None:
    predictor = Predictor()
    tpot, ttft = (
        predictor.predict(replace(ROW, metric=m)).predicted for m in ("tpot_p50", "ttft_p50")
    )
    rate = predictor.predict(replace(ROW, metric="token_throughput", unit="tokens/s")).predicted
    assert tpot is not None
    assert ttft is not None
    assert rate is not None
    assert 156 / rate == pytest.approx((ttft + 155 * tpot) / 1000, rel=0.05)
    note = predictor.predict(replace(ROW, weight_dtype="int8")).note
    assert "weights in int8 predicted as bf16" in note
