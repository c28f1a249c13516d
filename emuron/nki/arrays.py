"""Arrays that users bring: NumPy or PyTorch in, the same kind out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emuron.errors import UsageError
from emuron.numerics.dtypes import DType
from emuron.numerics.dtypes import dtype as to_dtype


@dataclass(frozen=True, slots=True)
class ShapeDtype:
    """An argument without data: what a kernel can be timed with."""

    shape: tuple[int, ...]
    dtype: str


def is_array(value: object) -> bool:
    """Return whether an argument becomes a tensor: an array, or a `ShapeDtype`."""
    return isinstance(value, np.ndarray | ShapeDtype) or _is_torch(value)


def _is_torch(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def described(value: Any, name: str) -> ShapeDtype:
    """Return the shape and dtype of an array; raise UsageError for one that no chip stores."""
    try:
        kind = to_dtype(value.dtype)
    except UsageError as error:
        raise UsageError(
            f"Argument {name} is {value.dtype}, which the hardware does not have. "
            "Convert it, say to float32."
        ) from error
    return ShapeDtype(tuple(value.shape), kind)


def to_numpy(value: Any) -> NDArray[Any]:
    """Return a contiguous NumPy array of the stored elements."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(value.shape)
    torch = sys.modules["torch"]
    dense = value.detach().cpu().contiguous()
    stored = dense.reshape(-1).view(torch.uint8).numpy()
    return np.asarray(stored.view(to_dtype(value.dtype).np).reshape(dense.shape))


def like(value: Any, array: NDArray[Any], kind: DType) -> Any:
    """Return `array` of dtype `kind` as the kind of array that `value` is."""
    if not _is_torch(value):
        return array.view(np.dtype(kind)) if kind.kind == "packed" else array
    torch = sys.modules["torch"]
    stored = torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy())
    name = kind.removesuffix("_")
    return stored.view(getattr(torch, name)).reshape(array.shape)


def write_back(value: Any, array: NDArray[Any], name: str) -> None:
    """Put new contents into an argument that a kernel wrote to."""
    if _is_torch(value):
        value.copy_(like(value, array, to_dtype(value.dtype)))
        return
    if not value.flags.writeable:
        raise UsageError(f"The kernel writes to argument {name}, which is read-only. Pass a copy.")
    value[...] = array.view(value.dtype)
