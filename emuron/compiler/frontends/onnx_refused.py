"""Why the operators that no graph can hold are refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_DATA_DEPENDENT = (
    "gives a tensor whose size depends on the values of another; compiled programs have fixed "
    "sizes: leave it to the code that runs the model"
)
_TEXT = "works on text, which the chip has not; leave it to the code that runs the model"
_SEQUENCE = "works on sequences or optional values, which the chip has not; export tensors"
_RANDOM = "draws random numbers; pass them as an input"
_TRAINING = "belongs to training; export the model for inference"

_REASONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("NonMaxSuppression", "NonZero", "Unique"), _DATA_DEPENDENT),
        **dict.fromkeys(
            ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"), _TEXT
        ),
        **dict.fromkeys(
            (
                *("ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement"),
                *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase"),
                *("SequenceInsert", "SequenceLength", "SplitToSequence"),
            ),
            _SEQUENCE,
        ),
        **dict.fromkeys(
            (
                *("Multinomial", "RandomNormal", "RandomNormalLike"),
                *("RandomUniform", "RandomUniformLike"),
            ),
            _RANDOM,
        ),
    }
)


def refusal(kind: str) -> str:
    """Return why there is no handler for an operator."""
    if kind.startswith("ai.onnx.preview.training:"):
        return f"{kind} {_TRAINING}"
    if kind in _REASONS:
        return f"{kind} {_REASONS[kind]}"
    return f"the ONNX front end does not know the operator {kind}; write it with others"
