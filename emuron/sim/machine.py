"""The memories of one core: contents, what has been written, aliases, accumulator registers.

Every tensor is a contiguous allocation of its own, made on first use; only tensors that the user
placed with `address=` on the same bytes share storage. Bytes live in NumPy buffers; the views that
instructions work on are arrays of the back end over the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emuron.errors import UninitializedReadError, UsageError
from emuron.isa.meetings import Meeting, Operands
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.numerics.backend import Backend, get_backend
from emuron.numerics.dtypes import DType, float32
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

Bytes = npt.NDArray[np.uint8]

WRITTEN = 1
_PADDING = 8  # bytes: a buffer can be viewed as any dtype


class Memory:
    """A run of bytes that one tensor, or several aliasing ones, live in.

    `unwritten` counts the bytes never written; `mask` holds WRITTEN for each written byte, and is
    None while all or none are.
    """

    __slots__ = ("buffer", "mask", "unwritten", "writable", "typed")

    def __init__(self, nbytes: int, buffer: Bytes | None = None) -> None:
        self.writable = buffer is None
        if buffer is None:
            padded = -(-nbytes // _PADDING) * _PADDING
            buffer = np.empty(padded, np.uint8)
        self.buffer = buffer
        self.mask: Bytes | None = None
        self.unwritten = nbytes
        self.typed: dict[DType, Any] = {}

    def make_mask(self) -> Bytes:
        """Return the mask, made if there is none."""
        if self.mask is None:
            fill = 0 if self.unwritten else WRITTEN
            self.mask = (
                np.full(len(self.buffer), fill, np.uint8)
                if fill
                else np.zeros(len(self.buffer), np.uint8)
            )
        return self.mask

    def own(self) -> None:
        """Replace a buffer that belongs to the caller by a copy."""
        if not self.writable:
            padded = np.empty(-(-len(self.buffer) // _PADDING) * _PADDING, np.uint8)
            padded[: len(self.buffer)] = self.buffer
            self.buffer = padded
            self.typed.clear()
            self.writable = True


class Storage:
    """Where one tensor's bytes are: `base` in a Memory, partitions `pitch` bytes apart.

    `matmul` holds WRITTEN for each byte that a matmul has written since the tensor was made.
    """

    __slots__ = ("tensor", "memory", "base", "pitch", "dense", "nbytes", "matmul", "all_matmul")

    def __init__(self, tensor: Tensor, memory: Memory, base: int = 0, pitch: int = 0) -> None:
        self.tensor = tensor
        self.matmul: Memory | None = None
        self.all_matmul = False
        self.nbytes = tensor.nbytes
        self.move(memory, base, pitch or tensor.partition_bytes)

    def move(self, memory: Memory, base: int, pitch: int) -> None:
        """Bind the tensor to bytes of a memory."""
        self.memory = memory
        self.base = base
        self.pitch = pitch
        self.dense = base == 0 and pitch == self.tensor.partition_bytes

    def rows(self, buffer: Bytes) -> Bytes:
        """Return the tensor's bytes in a buffer as [partitions, bytes] (one row in HBM)."""
        tensor = self.tensor
        if not tensor.buffer.is_on_chip:
            return buffer[self.base : self.base + self.nbytes].reshape(1, -1)
        shape = (tensor.shape[0], tensor.partition_bytes)
        return np.ndarray(shape, np.uint8, buffer, self.base, (self.pitch, 1))


class Machine:
    """The memories and accumulator registers of one core while programs run on it.

    `shared` holds the tensors in shared_hbm, for all the cores of a rank; `meet` carries out an
    instruction together with other cores.
    """

    def __init__(
        self,
        core: NeuronCore,
        backend: str | Backend = "numpy",
        policy: NumericsPolicy = DEFAULT_POLICY,
        *,
        shared: dict[Tensor, Storage] | None = None,
        meet: Callable[[Meeting, Operands], None] | None = None,
    ) -> None:
        self.core = core
        self._shared: dict[Tensor, Storage] = {} if shared is None else shared
        self._meet = meet
        self.backend: Backend = get_backend(backend) if isinstance(backend, str) else backend
        self.policy = policy
        self.ops: Any = (
            _UnguardedOps(self.backend) if self.backend.name == "numpy" else self.backend
        )
        self._storages: dict[Tensor, Storage] = {}
        self._placed: list[Storage] = []
        self._counter = 0
        self._registers: dict[str, tuple[Any, npt.NDArray[np.bool_]]] = {}

    def storage(self, tensor: Tensor) -> Storage:
        """Return where a tensor's bytes are, allocating them on first use."""
        found = self._storages.get(tensor)
        if found is None:
            found = self._shared.get(tensor) or self._allocate(tensor)
            self._keep(found)
        return found

    def _keep(self, storage: Storage) -> None:
        self._storages[storage.tensor] = storage
        if storage.tensor.buffer is MemoryRegion.shared_hbm:
            self._shared[storage.tensor] = storage

    def _allocate(self, tensor: Tensor) -> Storage:
        if not tensor.aliases or tensor.address is None:
            return Storage(tensor, Memory(tensor.nbytes))
        storage = Storage(tensor, Memory(tensor.nbytes))
        shared = [other for other in self._placed if _overlap(tensor, other.tensor)]
        memories = {id(other.memory) for other in shared}
        group = [other for other in self._placed if id(other.memory) in memories]
        if shared:
            _merge([*group, storage])
        self._placed.append(storage)
        return storage

    def release(self, tensor: Tensor) -> None:
        """Forget the contents of a tensor that nothing will read again."""
        if not tensor.aliases:
            self._storages.pop(tensor, None)

    def bind(self, tensor: Tensor, array: npt.NDArray[Any]) -> None:
        """Let a tensor's contents be a NumPy array, without a copy (memory-mapped files too).

        The array is never written to: a write to the tensor copies it first. A dtype of another
        size, another number of elements or a non-contiguous array raises UsageError.
        """
        if array.size != tensor.size or array.dtype.itemsize != tensor.dtype.itemsize:
            raise UsageError(
                f"Tensor '{tensor.name}' is {list(tensor.shape)} {tensor.dtype}, "
                f"the array is {list(array.shape)} {array.dtype}; give it that shape and dtype."
            )
        if not array.flags.c_contiguous or tensor.aliases:
            self.write(tensor, array)
            return
        memory = Memory(tensor.nbytes, array.reshape(-1).view(np.uint8))
        memory.unwritten = 0
        storage = self._storages.get(tensor)
        if storage is None:
            self._keep(Storage(tensor, memory))
        else:
            storage.move(memory, 0, tensor.partition_bytes)

    def changed(self, tensor: Tensor) -> bool:
        """Return whether a tensor whose contents were bound has been written to."""
        return self.storage(tensor).memory.writable

    def meet(self, instruction: Meeting, operands: Operands) -> None:
        """Carry out an instruction together with other cores; UsageError if there are none."""
        if self._meet is None:
            raise UsageError(
                f"{instruction.mnemonic} needs other cores, and this machine is alone. "
                "Run the kernel with nki.simulate(kernel[2])."
            )
        self._meet(instruction, operands)

    def write(self, tensor: Tensor, array: npt.NDArray[Any]) -> None:
        """Copy a NumPy array of the tensor's shape and storage dtype into a tensor."""
        if array.size != tensor.size or array.dtype.itemsize != tensor.dtype.itemsize:
            raise UsageError(
                f"Tensor '{tensor.name}' is {list(tensor.shape)} {tensor.dtype}, "
                f"the array is {list(array.shape)} {array.dtype}; give it that shape and dtype."
            )
        storage = self.storage(tensor)
        memory = storage.memory
        memory.own()
        rows = storage.rows(memory.buffer)
        np.copyto(rows, np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(rows.shape))
        if storage.dense:
            memory.unwritten, memory.mask = 0, None
        else:
            mask = storage.rows(memory.make_mask())
            memory.unwritten -= int(mask.size - np.count_nonzero(mask))
            mask[...] = WRITTEN

    def read(self, tensor: Tensor) -> npt.NDArray[Any]:
        """Return a copy of a tensor's contents, NumPy with the storage dtype.

        Raises UninitializedReadError if part of it was never written.
        """
        storage = self.storage(tensor)
        memory = storage.memory
        if memory.unwritten:
            written = storage.rows(memory.make_mask())
            if not written.all():
                raise unwritten_error(tensor, "reading the result", int(np.argmin(written.ravel())))
        rows = np.ascontiguousarray(storage.rows(memory.buffer))
        return rows.reshape(-1).view(tensor.dtype.np).reshape(tensor.shape).copy()

    def next_counter(self) -> int:
        """Return the next number of the stochastic-rounding sequence."""
        self._counter += 1
        return self._counter

    def registers(self, engine: str) -> tuple[Any, npt.NDArray[np.bool_]]:
        """Return an engine's accumulator registers, fp32 [partitions, 1], and which are defined."""
        found = self._registers.get(engine)
        if found is None:
            count = self.core.partitions
            values = self.backend.zeros((count, 1), float32)
            found = self._registers[engine] = (values, np.zeros(count, np.bool_))
        return found


class _UnguardedOps:
    """NumPy's tile operations without their guard against warnings, which costs a microsecond.

    For callers that guard a whole run with `np.errstate` themselves.
    """

    def __init__(self, backend: Backend) -> None:
        for name in dir(type(backend)):
            operation = getattr(type(backend), name)
            inner = getattr(operation, "__wrapped__", operation)
            if not name.startswith("_") and callable(inner):
                setattr(self, name, inner.__get__(backend))
        self.name = backend.name


def unwritten_error(tensor: Tensor, instruction: str, byte: int) -> UninitializedReadError:
    """Return the error for a read of bytes that nothing wrote; `byte` is the first."""
    place = f"byte {byte}"
    if tensor.buffer.is_on_chip and tensor.partition_bytes:
        partition, offset = divmod(byte, tensor.partition_bytes)
        place = f"partition {partition}, byte {offset}"
    return UninitializedReadError(
        f"{instruction}: '{tensor.name}' {list(tensor.shape)} {tensor.dtype} in "
        f"{tensor.buffer.value} was never written at {place}. "
        "Write all that is read first, for example with memset or dma_copy."
    )


def _extent(tensor: Tensor) -> tuple[int, int, int, int]:
    """Return the first and past-the-end partition and byte of a placed tensor."""
    if isinstance(tensor.address, tuple):
        partition, byte = tensor.address
        return partition, partition + tensor.shape[0], byte, byte + tensor.partition_bytes
    byte = tensor.address or 0
    return 0, 1, byte, byte + tensor.nbytes


def _overlap(a: Tensor, b: Tensor) -> bool:
    if a.buffer is not b.buffer:
        return False
    p0, p1, b0, b1 = _extent(a)
    q0, q1, c0, c1 = _extent(b)
    return p0 < q1 and q0 < p1 and b0 < c1 and c0 < b1


def _merge(storages: list[Storage]) -> None:
    """Move tensors that overlap, directly or through each other, into one memory."""
    extents = [_extent(storage.tensor) for storage in storages]
    first_partition = min(e[0] for e in extents)
    first_byte = min(e[2] for e in extents)
    partitions = max(e[1] for e in extents) - first_partition
    pitch = max(e[3] for e in extents) - first_byte
    pitch = -(-pitch // _PADDING) * _PADDING
    merged = Memory(partitions * pitch)
    mask = merged.make_mask()
    for storage, (partition, _, byte, _) in zip(storages, extents, strict=True):
        base = (partition - first_partition) * pitch + byte - first_byte
        old = storage.memory
        written = storage.rows(old.make_mask()).copy() if old.unwritten else None
        content = storage.rows(old.buffer).copy()
        storage.move(merged, base, pitch)
        known = slice(None) if written is None else written == WRITTEN
        storage.rows(merged.buffer)[known] = content[known]
        storage.rows(mask)[known] = WRITTEN
    merged.unwritten = int(len(mask) - np.count_nonzero(mask))
