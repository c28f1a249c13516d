"""Arrays that users bring: NumPy, PyTorch or JAX in, the same kind out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emuron.errors import UsageError
from emuron.numerics.dtypes import DType, float8_e4m3, float8_e4m3fn
from emuron.numerics.dtypes import dtype as to_dtype
from emuron.numerics.rounding import round_to, widen


@dataclass(frozen=True, slots=True)
class ShapeDtype:
    """An argument without data: what a kernel can be timed with."""

    shape: tuple[int, ...]
    dtype: str


def framework_of(value: object) -> str | None:
    """Return whose array a value is: "numpy", "torch" or "jax"; None for anything else."""
    if isinstance(value, np.ndarray | ShapeDtype):
        return "numpy"
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and isinstance(value, torch.Tensor):
        return "torch"
    if jax is not None and isinstance(value, jax.Array):
        return "jax"
    return None


def is_array(value: object) -> bool:
    """Return whether an argument becomes a tensor: an array, or a `ShapeDtype`."""
    return framework_of(value) is not None


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
    if framework_of(value) != "torch":
        array = np.asarray(value)
        return np.ascontiguousarray(array).reshape(array.shape)
    torch = sys.modules["torch"]
    dense = value.detach().cpu().contiguous()
    stored = dense.reshape(-1).view(torch.uint8).numpy()
    return np.asarray(stored.view(to_dtype(value.dtype).np).reshape(dense.shape))


def cast(array: NDArray[Any], kind: DType, target: DType) -> NDArray[Any]:
    """Return stored elements of dtype `kind` as those of another, rounded to nearest."""
    return array.view(target.np) if kind == target else round_to(widen(array, kind), target)


def like(framework: str, array: NDArray[Any], kind: DType) -> Any:
    """Return `array` of dtype `kind` as an array of a framework.

    PyTorch has no float8_e4m3, the format of chips before trn3: it gets float8_e4m3fn.
    """
    if framework == "torch":
        torch = sys.modules["torch"]
        if kind == float8_e4m3:
            array, kind = cast(array, kind, float8_e4m3fn), float8_e4m3fn
        stored = torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy())
        return stored.view(getattr(torch, kind.removesuffix("_"))).reshape(array.shape)
    if framework == "jax":
        return sys.modules["jax"].numpy.asarray(array)
    return array.view(np.dtype(kind)) if kind.kind == "packed" else array


def write_back(
    value: Any, array: NDArray[Any], kind: DType, name: str, *, returned: bool = False
) -> None:
    """Put new contents of dtype `kind` into an argument that a kernel wrote to.

    `returned` says whether the kernel returns them too.

    Raises UsageError for arrays that cannot be written, unless JAX's are returned.
    """
    framework = framework_of(value)
    array = cast(array, kind, to_dtype(value.dtype))
    if framework == "torch":
        value.detach().copy_(like("torch", array, to_dtype(value.dtype)))
    elif framework == "jax":
        if not returned:
            raise UsageError(
                f"The kernel writes to argument {name}, and JAX arrays never change. "
                "Return the tensor from the kernel too."
            )
    elif not value.flags.writeable:
        raise UsageError(f"The kernel writes to argument {name}, which is read-only. Pass a copy.")
    else:
        value[...] = array.view(value.dtype)
