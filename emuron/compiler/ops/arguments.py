"""Checks of operand types that the operators share, with messages that name the operand."""

from __future__ import annotations

from emuron.compiler.graph import TensorType
from emuron.errors import UsageError


def require(condition: bool, message: str) -> None:
    """Raise UsageError with `message` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


def require_operands(types: tuple[TensorType, ...], *names: str) -> None:
    """Check that there are as many operands as `names`."""
    require(
        len(types) == len(names),
        f"takes {len(names)} operands ({', '.join(names)}), found {len(types)}",
    )


def require_float(type: TensorType, name: str) -> None:
    """Check that an operand is of a floating-point dtype."""
    require(type.dtype.kind == "float", f"{name} must be floating point, found {type}")


def require_eight_bits(type: TensorType, name: str) -> None:
    """Check that an operand is int8 or an 8-bit floating-point dtype."""
    narrow = type.dtype.kind in ("int", "float") and type.dtype.itemsize == 1
    require(narrow, f"{name} must be int8 or an 8-bit float, found {type}")


def require_integer(type: TensorType, name: str) -> None:
    """Check that an operand is of an integer dtype."""
    require(type.dtype.kind in ("int", "uint"), f"{name} must be an integer tensor, found {type}")


def require_shape(type: TensorType, shape: tuple[int, ...], name: str) -> None:
    """Check that an operand has exactly `shape`."""
    require(type.shape == shape, f"{name} must have shape {list(shape)}, found {type}")


def require_axis(axis: int, rank: int, name: str = "axis") -> None:
    """Check that `axis` counts from 0 and lies within `rank` dimensions."""
    require(0 <= axis < rank, f"{name} must lie in 0..{rank - 1}, found {axis}")
