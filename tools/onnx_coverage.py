"""Runs ONNX's own node tests and tells which operators pass, are refused by name, or are wrong."""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto
from onnx.numpy_helper import to_array
from onnx.reference import ReferenceEvaluator

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


MOST_FACTORS = 8
"""Real numbers of an input that is a setting (the scales of a Resize), not data."""


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


def outcome(test: Any, whole: Any = None) -> Outcome:
    """Import, evaluate and compare one node test; `whole` is the test that it expands, if any."""
    try:
        for inputs, expected in test.data_sets:
            reason = _difference(test.model, inputs, expected, (whole or test).model)
            if reason:
                return Outcome(test.name, "wrong", reason)
    except UnsupportedOpError as error:
        return Outcome(test.name, "refused", str(error))
    except EmuronError as error:
        return Outcome(test.name, "crash", f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - a crash is what this looks for
        return Outcome(test.name, "crash", f"{type(error).__name__}: {error}")
    return Outcome(test.name, "pass")


def outcomes(tests: list[Any]) -> list[Outcome]:
    """Return what became of each test."""
    by_name = {test.name: test for test in tests}
    return [outcome(t, by_name.get(t.name.removesuffix("_expanded"))) for t in tests]


def _difference(model: Any, inputs: list[Any], expected: list[Any], whole: Any) -> str:
    """Return how the outputs differ from those expected, "" if they do not.

    What bfloat16 sums in bfloat16 is off by several units in the last place: there, outputs need
    only be as near to the float32 results as those expected.
    """
    named = {v.name: _array(x) for v, x in zip(model.graph.input, inputs, strict=False)}
    graph = _imported(model, named)
    fed = {v.name: _fed(named[v.name], v.type.dtype.np) for v in graph.inputs}
    found = Evaluator(graph).run(fed)
    for number, (value, wanted) in enumerate(zip(model.graph.output, expected, strict=True)):
        array = _array(wanted)
        reason = _unequal(found[value.name], array)
        if reason and array.dtype.name == "bfloat16":
            exact = _exact(whole, named)[number]
            ours, theirs = (np.abs(_plain(a) - exact).max() for a in (found[value.name], array))
            reason = "" if ours <= theirs else reason
        if reason:
            return f"{value.name}: {reason}"
    return ""


def _exact(model: Any, named: dict[str, Any]) -> list[np.ndarray]:
    """Return the results of ONNX's reference implementation with float32 for bfloat16."""
    wide = ModelProto()
    wide.CopyFrom(model)
    for entry in (*wide.graph.input, *wide.graph.output):
        if entry.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            entry.type.tensor_type.elem_type = TensorProto.FLOAT
    fed = {n: a.astype(np.float32) if a.dtype.name == "bfloat16" else a for n, a in named.items()}
    return list(ReferenceEvaluator(wide).run(None, fed))


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
            fresh = [n for n in error.inputs if n not in constants and _is_setting(named[n])]
            if not fresh:
                raise
            constants.update({name: np.asarray(named[name]) for name in fresh})


def _array(given: Any) -> Any:
    """Return a test's tensor as an array; sequences, optionals and strings stay as they are."""
    if isinstance(given, TensorProto):
        return to_array(given)
    return np.asarray(given) if np.isscalar(given) else given


def _is_setting(array: Any) -> bool:
    """Whether an input may be bound when the model is compiled: places, sizes, a few factors."""
    return array.dtype.kind in "iub" or array.size <= MOST_FACTORS


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
    results = outcomes([t for t in node_tests() if options.only in t.name])
    for found in results:
        if found.kind in options.show:
            print(f"{found.kind:8} {found.name}: {found.reason}")
    counts = Counter(found.kind for found in results)
    print(f"{len(results)} node tests: {dict(counts)}")


if __name__ == "__main__":
    main()
