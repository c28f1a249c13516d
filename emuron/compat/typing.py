"""`nki.typing`: annotations for kernel parameters, which say nothing to the simulator."""

from __future__ import annotations

from types import GenericAlias
from typing import Any


class tensor:
    """A tensor; `tensor[128, 512]` declares its shape."""

    def __class_getitem__(cls, shape: Any) -> GenericAlias:
        """Return the annotation with a shape or dtype."""
        return GenericAlias(cls, shape)


class mutable_tensor(tensor):
    """A tensor that the kernel writes to."""


class scalar:
    """A number known when the kernel is compiled."""

    def __class_getitem__(cls, kind: Any) -> GenericAlias:
        """Return the annotation with a dtype."""
        return GenericAlias(cls, kind)


def mutable(annotation: Any) -> Any:
    """Return the annotation of a parameter that the kernel writes to."""
    return annotation
