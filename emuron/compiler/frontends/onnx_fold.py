"""Computes what depends on no input: shapes, masks and tables that a file spells as operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.errors import ModelFileError, missing_extra

try:
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    raise missing_extra(error, "Reading an ONNX model") or error from error

MOST_FOLDED_ELEMENTS = 1 << 25
"""Longer results stay operators of the graph (the causal mask of 4096 tokens has 2**24)."""

MOST_LOOPED_ELEMENTS = 1 << 14
"""The same for operators that are computed element by element, in Python."""

_LOOPED = frozenset({"GatherND", "ScatterElements", "ScatterND", "Unique"})

Arrays = Sequence[np.ndarray | None]

_ELEMENTWISE = frozenset(
    {
        *("Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
        *("Ceil", "Cos", "Div", "Equal", "Exp", "Floor", "Greater", "GreaterOrEqual", "IsInf"),
        *("IsNaN", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or"),
        *("Pow", "Reciprocal", "Relu", "Round", "Sign", "Sin", "Sqrt", "Sub", "Where", "Xor"),
    }
)
"""The result has the common shape of the operands."""

_NO_LARGER = frozenset(
    {
        *("ArgMax", "ArgMin", "Cast", "CastLike", "Clip", "Compress", "Concat", "CumSum"),
        *("EyeLike", "Flatten", "GatherElements", "GatherND", "Identity", "NonZero", "ReduceMax"),
        *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "ScatterElements"),
        *("ScatterND", "Shape", "Size", "Slice", "Split", "Squeeze", "TopK", "Transpose"),
        *("Trilu", "Unique", "Unsqueeze"),
    }
)
"""No result is larger than all operands together (times the rank, for places)."""


def _product(sizes: Any) -> int:
    """Return the product of sizes that are known, as Python counts: without overflow."""
    return math.prod(max(0, int(n)) for n in np.asarray(sizes).reshape(-1))


def _stretched(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    shapes = [a.shape for a in arrays if a is not None]
    return math.prod(np.broadcast_shapes(*shapes))


def _together(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    return sum(a.size * max(1, a.ndim) for a in arrays if a is not None)


def _of_shape(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    return _product(arrays[0])


def _expanded(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    assert arrays[0] is not None
    return _product(arrays[1]) * max(1, arrays[0].size)


def _counted(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    start, limit, step = (float(np.asarray(a).reshape(-1)[0]) for a in arrays)
    return max(0, math.ceil((limit - start) / step))


def _gathered(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    x, index = arrays[:2]
    assert x is not None
    assert index is not None
    along: int = x.shape[attributes.get("axis", 0)]
    return x.size // max(1, along) * index.size


def _multiplied(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    x, y = arrays[:2]
    assert x is not None
    assert y is not None
    rows, columns = x.size // max(1, x.shape[-1]), y.size // max(1, y.shape[-2:][0])
    return int(rows * columns)


def _one_hot(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    assert arrays[0] is not None
    return arrays[0].size * _product(arrays[1])


def _padded(arrays: Arrays, attributes: Mapping[str, Any]) -> int:
    x, widths = arrays[:2]
    assert x is not None
    added = int(np.abs(np.asarray(widths)).sum())
    return math.prod(n + added for n in x.shape)


_RESULT_ELEMENTS: Mapping[str, Callable[[Arrays, Mapping[str, Any]], int]] = MappingProxyType(
    {
        **dict.fromkeys(_ELEMENTWISE, _stretched),
        **dict.fromkeys(_NO_LARGER, _together),
        "ConstantOfShape": _of_shape,
        "Expand": _expanded,
        "Gather": _gathered,
        "MatMul": _multiplied,
        "OneHot": _one_hot,
        "Pad": _padded,
        "Range": _counted,
        "Tile": _expanded,
    }
)
"""A bound of what each foldable operator gives, from its operands: none is computed that is huge.
"""


def is_foldable(kind: str) -> bool:
    """Whether an operator of known operands is computed when the model is read."""
    return kind in _RESULT_ELEMENTS


def _gather_elements(x: np.ndarray, index: np.ndarray, axis: int = 0) -> np.ndarray:
    within = tuple(
        slice(None) if i == axis % x.ndim else slice(n) for i, n in enumerate(index.shape)
    )
    return np.take_along_axis(x[within], index, axis)


_OWN: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {"GatherElements": _gather_elements}
)
"""Operators that the reference implementation computes for a few sizes only."""


def fold(node: Any, kind: str, attributes: Mapping[str, Any], arrays: Arrays) -> list[Any] | None:
    """Return the results of a node of the default domain whose operands are all known.

    None if they would be too long. The semantics are those of the onnx package's reference
    implementation, at the model's own 64-bit precision. Raises ModelFileError for operands that
    make no sense.
    """
    most = MOST_LOOPED_ELEMENTS if kind in _LOOPED else MOST_FOLDED_ELEMENTS
    if _RESULT_ELEMENTS[kind](arrays, attributes) > most:
        return None
    if kind in _OWN:
        return [_OWN[kind](*arrays, **attributes)]
    feeds = {name: a for name, a in zip(node.input, arrays, strict=True) if name}
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(node).run(None, feeds)
    if not all(isinstance(result, np.ndarray | np.generic) for result in found):
        raise ModelFileError(f"{kind} gives no tensors")
    return [np.asarray(result) for result in found]
