"""MXNet's `.params` files: named NDArrays, read without MXNet and without unpickling anything.

Source: src/ndarray/ndarray.cc of Apache MXNet 1.9 (`NDArray::Save`, `NDArray::Load`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from emuron.compiler.frontends.weights import StoredTensor
from emuron.errors import ModelFileError

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_MOST_RANK = 32
_MOST_ARRAYS = 1 << 20
_MOST_NAME_BYTES = 4096
_DTYPES: Mapping[int, np.dtype[Any]] = MappingProxyType(
    {
        0: np.dtype(np.float32),
        1: np.dtype(np.float64),
        2: np.dtype(np.float16),
        3: np.dtype(np.uint8),
        4: np.dtype(np.int32),
        5: np.dtype(np.int8),
        6: np.dtype(np.int64),
        7: np.dtype(np.bool_),
        8: np.dtype(np.int16),
        9: np.dtype(np.uint16),
        10: np.dtype(np.uint32),
        11: np.dtype(np.uint64),
        12: np.dtype(ml_dtypes.bfloat16),
    }
)


def read_params(path: Path) -> dict[str, StoredTensor]:
    """Return where each array lies, by name without `arg:` or `aux:`; no data is read.

    Raises ModelFileError naming the fault of a damaged file.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file).arrays()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = os.fstat(file.fileno()).st_size

    def fail(self, why: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {why}; the file is damaged or no file of parameters")

    def arrays(self) -> dict[str, StoredTensor]:
        if self.size < 24 or self.number(8) != _LIST_MAGIC:
            raise self.fail("its first bytes are not those of a list of NDArrays")
        self.number(8)
        count = self.count("arrays", 8)
        found = [self.array(i) for i in range(count)]
        names = self.count("names", 8)
        if names != count:
            raise self.fail(f"{count} arrays have {names} names")
        named: dict[str, StoredTensor] = {}
        for array in found:
            name = self.name()
            if name in named:
                raise self.fail(f"two arrays are called {name!r}")
            named[name] = array
        return named

    def number(self, size: int, *, signed: bool = False) -> int:
        data = self.file.read(size)
        if len(data) < size:
            raise self.fail(f"ends at byte {self.size}, in the middle of a number")
        return int.from_bytes(data, "little", signed=signed)

    def count(self, what: str, size: int) -> int:
        """Return a number of things that each take `size` bytes of the file at least."""
        found = self.number(8)
        if found > min(_MOST_ARRAYS, (self.size - self.file.tell()) // size):
            raise self.fail(f"claims {found} {what} in {self.size} bytes")
        return found

    def array(self, index: int) -> StoredTensor:
        magic = self.number(4)
        if magic in (_V2, _V3) and self.number(4, signed=True) != 0:
            raise ModelFileError(f"{self.path}: array {index} is sparse, which is not read")
        shape = self.shape(index, magic)
        self.number(8)  # the device it was saved from
        to = _DTYPES.get(self.number(4))
        if to is None:
            raise self.fail(f"array {index} has a dtype that is not known")
        start, needed = self.file.tell(), math.prod(shape) * to.itemsize
        if needed > self.size - start:
            raise self.fail(
                f"array {index} ({to}{list(shape)}) needs {needed} bytes, {self.size - start} left"
            )
        self.file.seek(needed, os.SEEK_CUR)
        return StoredTensor(self.path, to, shape, start)

    def shape(self, index: int, magic: int) -> tuple[int, ...]:
        """Return a shape; before the versions the magic number is the number of dimensions."""
        versioned = magic in (_V1, _V2, _V3)
        rank = self.number(4, signed=True) if versioned else magic
        if not 0 <= rank <= _MOST_RANK or (rank == 0 and magic != _V3):
            raise self.fail(f"array {index} has {rank} dimensions")
        sizes = tuple(self.number(8 if versioned else 4, signed=versioned) for _ in range(rank))
        if min(sizes, default=0) < 0:
            raise self.fail(f"array {index} has the shape {list(sizes)}")
        return sizes

    def name(self) -> str:
        length = self.number(8)
        if length > _MOST_NAME_BYTES:
            raise self.fail(f"a name claims {length} bytes")
        data = self.file.read(length)
        if len(data) < length:
            raise self.fail(f"ends at byte {self.size}, in the middle of a name")
        return data.decode("utf-8", "replace").removeprefix("arg:").removeprefix("aux:")
