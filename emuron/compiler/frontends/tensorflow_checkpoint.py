"""TensorFlow checkpoints (TensorBundle): an index in LevelDB's table format and raw data shards.

Source: tensorflow/core/util/tensor_bundle and core/protobuf/tensor_bundle.proto; LevelDB,
doc/table_format.md. Data is memory-mapped when a weight is read, and never before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emuron.compiler.frontends.protobuf_wire import parse, read_varint, schema
from emuron.compiler.frontends.tensorflow_proto import DTYPES, SHAPE, sizes
from emuron.compiler.frontends.weights import StoredTensor
from emuron.errors import ModelFileError

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression type and checksum
_RESTART_BYTES = 4
_MOST_INDEX_BYTES = 1 << 28
_MOST_KEY_BYTES = 4096
_HEADER = schema(shards=(1, "int"), endianness=(2, "int"))
_ENTRY = schema(
    dtype=(1, "int"),
    shape=(2, SHAPE),
    shard=(3, "int"),
    offset=(4, "int"),
    size=(5, "int"),
    slices=(7, schema(), True),
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a checkpoint by key; `prefix` is its path without `.index`."""

    prefix: Path
    tensors: Mapping[str, StoredTensor]

    def tensor(self, key: str) -> StoredTensor:
        """Return where a variable's data lies; raise ModelFileError if it is missing."""
        found = self.tensors.get(key)
        if found is None:
            raise ModelFileError(
                f"{self.prefix}.index: the variable {key!r} that the graph reads is not in the "
                f"checkpoint ({len(self.tensors)} tensors found)"
            )
        return found


def open_checkpoint(prefix: Path) -> Checkpoint:
    """Read and check the index of a checkpoint; raise ModelFileError naming the fault."""
    path = prefix.with_name(prefix.name + ".index")
    try:
        size = path.stat().st_size
        data = memoryview(path.read_bytes()) if size <= _MOST_INDEX_BYTES else memoryview(b"")
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if size > _MOST_INDEX_BYTES:
        raise ModelFileError(f"{path}: an index of {size} bytes exceeds {_MOST_INDEX_BYTES}")
    return Checkpoint(prefix, _tensors(_Table(path, data), prefix))


def _tensors(table: _Table, prefix: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    shards = 0
    where = str(table.path)
    for key, value in table.items():
        if not key:
            header = parse(value, _HEADER, where)
            shards = header.get("shards", 1)
            if header.get("endianness", 0):
                raise ModelFileError(f"{where}: big-endian checkpoints are not read")
            continue
        name = key.decode("utf-8", "replace")
        entry = parse(value, _ENTRY, where)
        to = DTYPES.get(entry.get("dtype", 0))
        if to is None:
            continue  # strings: the object graph
        if entry.get("slices"):
            raise ModelFileError(
                f"{where}: the variable {name!r} is saved in slices; save it whole"
            )
        shape = sizes(entry.get("shape", {}), f"{where}: tensor {name!r}") or ()
        shard, offset, size = (entry.get(k, 0) for k in ("shard", "offset", "size"))
        data = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
        _check_extent(data, name, offset, size, math.prod(shape) * to.itemsize)
        tensors[name] = StoredTensor(data, to, shape, offset)
    return tensors


def _check_extent(data: Path, name: str, offset: int, size: int, needed: int) -> None:
    if not data.is_file():
        raise ModelFileError(f"{data}: the shard of the variable {name!r} is missing")
    found = data.stat().st_size
    if size != needed or offset < 0 or offset + size > found:
        raise ModelFileError(
            f"{data}: the variable {name!r} needs {needed} bytes, its entry spans {size} from "
            f"{offset}, the file has {found}; the checkpoint is damaged"
        )


class _Table:
    """A LevelDB table: sorted keys with shared prefixes in uncompressed blocks."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path = path
        self.data = data

    def fail(self, why: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {why}; the checkpoint's index is damaged")

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Yield keys and values of all blocks."""
        if len(self.data) < _FOOTER_BYTES:
            raise self.fail(f"{len(self.data)} bytes are no table")
        footer = self.data[-_FOOTER_BYTES:]
        if int.from_bytes(footer[-8:], "little") != _MAGIC:
            raise self.fail("its last bytes are not those of a table")
        _, _, at = self.handle(footer, 0)
        offset, size, _ = self.handle(footer, at)
        left = len(self.data)
        for _, found in self.block(offset, size):
            start, length, _ = self.handle(found, 0)
            left -= length
            if left < 0:  # blocks do not overlap in a table as it is written
                raise self.fail("its blocks overlap")
            yield from self.block(start, length)

    def block(self, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
        """Yield the keys and values of one block."""
        if offset + size + _TRAILER_BYTES > len(self.data) or size < _RESTART_BYTES:
            raise self.fail(f"a block of {size} bytes at {offset} does not lie in the file")
        if self.data[offset + size]:
            raise ModelFileError(f"{self.path}: compressed index blocks are not read")
        block = self.data[offset : offset + size]
        restarts = int.from_bytes(block[-_RESTART_BYTES:], "little")
        end = size - _RESTART_BYTES * (restarts + 1)
        if end < 0:
            raise self.fail(f"a block claims {restarts} restarts")
        at, key, where = 0, b"", str(self.path)
        while at < end:
            shared, at = read_varint(block, at, where)
            own, at = read_varint(block, at, where)
            length, at = read_varint(block, at, where)
            if shared > len(key) or shared + own > _MOST_KEY_BYTES or at + own + length > end:
                raise self.fail("a key exceeds its block")
            key = key[:shared] + bytes(block[at : at + own])
            yield key, block[at + own : at + own + length]
            at += own + length

    def handle(self, data: memoryview, at: int) -> tuple[int, int, int]:
        """Return a block's offset and size, and where the handle ends."""
        offset, at = read_varint(data, at, str(self.path))
        size, at = read_varint(data, at, str(self.path))
        return offset, size, at
