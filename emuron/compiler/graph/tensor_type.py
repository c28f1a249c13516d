"""The static type of a value: a shape and a dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emuron.errors import UsageError
from emuron.numerics.dtypes import DType, dtype


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape and dtype of a value; every size is known."""

    shape: tuple[int, ...]
    dtype: DType

    def __post_init__(self) -> None:
        if any(not isinstance(size, int) or size < 0 for size in self.shape):
            raise UsageError(
                f"a tensor's shape must be static and non-negative, found {list(self.shape)}; "
                "build the graph for one batch and sequence length"
            )
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "dtype", dtype(self.dtype))

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes in storage."""
        return self.elements * self.dtype.itemsize

    def with_shape(self, *shape: int) -> TensorType:
        """Return the same dtype with another shape."""
        return TensorType(tuple(shape), self.dtype)

    def with_dtype(self, new: DType | str) -> TensorType:
        """Return the same shape with another dtype."""
        return TensorType(self.shape, dtype(new))

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"
