"""How many inferences a published row kept in flight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emuron.hardware.catalog import instance
from emuron.planner.measurements import Measurement
from emuron.planner.protocols import Protocol, protocols, workers_of

ROW = Measurement("r", "", "inf2.xlarge", "throughput", "inferences/s", 1.0)


def workers(model: str, **changes: object) -> int:
    row = replace(ROW, **changes)  # type: ignore[arg-type]
    return workers_of(row, model, instance(row.instance))


def test_encoders_have_two_workers_even_on_the_largest_instance() -> None:
    assert workers("bert-base-uncased") == 2
    assert workers("xlm-roberta-base", instance="inf2.48xlarge", application="Batch") == 2


def test_images_come_one_by_one_in_real_time_and_two_a_core_in_batches() -> None:
    assert workers("vit-base-patch16-224", application="Real Time") == 1
    assert workers("vit-base-patch16-224", application="Batch") == 4


def test_inf1_has_rules_of_its_own() -> None:
    inf1 = {"instance": "inf1.xlarge", "cores": 4}
    assert workers("bert-base-cased", application="Real Time", **inf1) == 1
    assert workers("bert-base-cased", application="Batch", **inf1) == 8
    assert workers("bert-base-cased", framework="Tensorflow 2.10", instance="inf1.6xlarge") == 4


def test_one_worker_a_core_is_the_rule_without_a_protocol() -> None:
    assert Protocol().count(6) == 6


@pytest.mark.parametrize("protocol", protocols(), ids=lambda p: p.source[:40])
def test_every_protocol_says_where_it_comes_from(protocol: Protocol) -> None:
    assert protocol.source.startswith("measured: ")
