"""ONNX's own node tests, as the onnx package ships them: each passes or is refused by name."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from tools.onnx_coverage import Outcome, node_tests, outcomes  # noqa: E402

EVERY = 12
"""The default run takes every twelfth test: about 160 of them, of all families."""

FEWEST_PASSED_SHARE = 1400 / 1884
"""Of the tests that onnx 1.23 ships (issue 4)."""


@cache
def _tests() -> tuple[Any, ...]:
    return tuple(node_tests())


def _faults(found: list[Outcome]) -> list[str]:
    return [f"{o.name}: {o.reason}" for o in found if o.kind in ("wrong", "crash")]


def _names_its_operator(test: Any, found: Outcome) -> bool:
    kinds = {node.op_type for node in test.model.graph.node}
    return any(kind in found.reason for kind in kinds) or found.reason.startswith("input ")


def test_every_twelfth_node_test_passes_or_is_refused():
    assert _faults(outcomes(list(_tests()[::EVERY]))) == []


@pytest.mark.slow
def test_every_node_test_passes_or_is_refused_by_name():
    found = outcomes(list(_tests()))
    assert _faults(found) == []
    refused = [(t, o) for t, o in zip(_tests(), found, strict=True) if o.kind == "refused"]
    assert [o.reason for t, o in refused if not _names_its_operator(t, o)] == []
    counts = Counter(o.kind for o in found)
    assert counts["pass"] >= FEWEST_PASSED_SHARE * len(found)
