"""Runs ONNX's own node tests and tells which operators pass, are refused by name, or are wrong."""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from onnx.numpy_helper import to_array

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends.onnx import to_graph
from emuron.compiler.frontends.onnx_call import UnknownDataError
from emuron.compiler.graph import Graph
from emuron.errors import EmuronError, UnsupportedOpError

RTOL = 1e-3
"""Relative tolerance of the tests themselves (float32)."""

RTOL_NARROW = 2e-3
"""For float16 and bfloat16: half a unit in the last place of the latter is 2**-9."""

ATOL = 1e-5
"""Absolute tolerance: float32 sums of terms near 1 that cancel."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one node test: `kind` is pass, refused, wrong or crash."""

    name: str
    kind: str
    reason: str = ""


def node_tests() -> list[Any]:
    """Return the node tests of the onnx package, by name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return sorted(load_model_tests(kind="node"), key=lambda test: test.name)


def outcome(test: Any) -> Outcome:
    """Import, evaluate and compare one node test."""
    try:
        for inputs, expected in test.data_sets:
            reason = _difference(test.model, inputs, expected)
            if reason:
                return Outcome(test.name, "wrong", reason)
    except UnsupportedOpError as error:
        return Outcome(test.name, "refused", str(error))
    except EmuronError as error:
        return Outcome(test.name, "crash", f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - a crash is what this looks for
        return Outcome(test.name, "crash", f"{type(error).__name__}: {error}")
    return Outcome(test.name, "pass")


def _difference(model: Any, inputs: list[Any], expected: list[Any]) -> str:
    """Return how the outputs differ from those expected, "" if they do not."""
    named = {v.name: _array(x) for v, x in zip(model.graph.input, inputs, strict=False)}
    graph = _imported(model, named)
    fed = {v.name: _fed(named[v.name], v.type.dtype.np) for v in graph.inputs}
    found = Evaluator(graph).run(fed)
    for value, wanted in zip(model.graph.output, expected, strict=True):
        reason = _unequal(found[value.name], _array(wanted))
        if reason:
            return f"{value.name}: {reason}"
    return ""


def _imported(model: Any, named: dict[str, Any]) -> Graph:
    """Import a model; inputs that must be known when it is compiled are bound to the test's."""
    constants: dict[str, np.ndarray] = {}
    while True:
        shapes = {
            v.name: np.shape(named[v.name])
            for v in model.graph.input
            if v.name not in constants and v.name in named and isinstance(named[v.name], np.ndarray)
        }
        try:
            return to_graph(model, shapes=shapes, constants=constants)
        except UnknownDataError as error:
            fresh = [name for name in error.inputs if name not in constants]
            if not fresh:
                raise
            constants.update({name: np.asarray(named[name]) for name in fresh})


def _array(given: Any) -> Any:
    """Return a test's tensor as an array; sequences, optionals and strings stay as they are."""
    if isinstance(given, TensorProto):
        return to_array(given)
    return np.asarray(given) if np.isscalar(given) else given


def _fed(array: np.ndarray, to: np.dtype[Any]) -> np.ndarray:
    return array if array.dtype == to else array.astype(to)


def _unequal(found: np.ndarray, wanted: np.ndarray) -> str:
    if found.shape != wanted.shape:
        return f"shape {found.shape} for {wanted.shape}"
    narrow = wanted.dtype.itemsize < 4 and wanted.dtype.kind not in "iub"
    rtol = RTOL_NARROW if narrow else RTOL
    a, b = (_plain(array) for array in (found, wanted))
    with np.errstate(all="ignore"):
        close = np.isclose(a, b, rtol=rtol, atol=ATOL, equal_nan=True)
    if close.all():
        return ""
    at = tuple(int(i) for i in np.argwhere(~close)[0])
    return f"{int((~close).sum())} of {close.size} differ, first {a[at]} for {b[at]} at {list(at)}"


def _plain(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind in "iub" else array.astype(np.float64)


def main() -> None:
    """Print the sums, and the tests of the kinds asked for with the reason of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", nargs="*", default=["wrong", "crash"], help="kinds to list")
    parser.add_argument("--only", default="", help="tests whose name holds this")
    options = parser.parse_args()
    outcomes = [outcome(t) for t in node_tests() if options.only in t.name]
    for found in outcomes:
        if found.kind in options.show:
            print(f"{found.kind:8} {found.name}: {found.reason}")
    counts = Counter(found.kind for found in outcomes)
    print(f"{len(outcomes)} node tests: {dict(counts)}")


if __name__ == "__main__":
    main()
