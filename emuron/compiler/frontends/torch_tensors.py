"""PyTorch's tensors as arrays and types of the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from emuron.compiler.frontends.torch_call import narrowed
from emuron.compiler.graph import TensorType
from emuron.errors import OutOfBoundsError, UnsupportedOpError
from emuron.numerics.dtypes import DType, dtype


def shape_alone_if_fake(torch: Any, tensor: Any) -> Any:
    """Return a tensor itself, or one on the meta device for what FakeTensorMode made."""
    if not isinstance(tensor, torch._subclasses.FakeTensor):
        return tensor
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def to_numpy(torch: Any, tensor: Any) -> np.ndarray:
    """Return a tensor's data, in the dtype that stands for its own on the chip; shared if equal."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.int64:
        return _narrow_integers(tensor.numpy())
    if tensor.dtype == torch.float64:
        return np.asarray(tensor.numpy(), dtype=np.float32)
    to = dtype(tensor.dtype)
    if to.np.kind == "V" or to.np.type.__module__ == "ml_dtypes":
        bits = {1: torch.uint8, 2: torch.int16}[to.itemsize]
        return np.asarray(tensor.view(bits).numpy().view(to.np))
    return np.asarray(tensor.numpy())


def _narrow_integers(array: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise OutOfBoundsError("a constant holds integers beyond 32 bits, which the chip lacks")
    return array.astype(np.int32)


def type_of(tensor: Any) -> TensorType:
    """Return the type that stands for a PyTorch tensor, or for both parts of a complex one."""
    if not hasattr(tensor, "shape"):
        raise UnsupportedOpError(f"a result that is no tensor ({type(tensor).__name__})")
    stored = tensor.dtype.to_real() if tensor.dtype.is_complex else tensor.dtype
    to: DType = narrowed(stored)
    return TensorType(tuple(tensor.shape), to)
