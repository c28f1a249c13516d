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
from emuron.isa.tensor import MemoryRegion, StorageKind, Tensor
from emuron.numerics.backend import Backend, get_backend
from emuron.numerics.dtypes import DType, float32
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy
from emuron.sim.owners import Owners
from emuron.sim.written import WRITTEN, Bytes, Written

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

_POISON_BYTE = 0xFF  # all bits set are NaN in every float format that has NaN
_POISON_INTEGER = 4
_PADDING = 8  # bytes: a buffer can be viewed as any dtype


class Memory(Written):
    """A run of bytes that one tensor, or several aliasing ones, live in, and what is written.

    The bytes of an arena are not `counted`: its `unwritten` stays above 0, and it has a mask, which
    holds for each byte the mark of its owner, the tensor that wrote it last.
    """

    __slots__ = ("buffer", "writable", "typed", "counted", "owners")

    def __init__(
        self, nbytes: int, pitch: int, buffer: Bytes | None = None, *, counted: bool = True
    ) -> None:
        super().__init__(nbytes, pitch)
        self.counted = counted
        self.owners: Owners | None = None
        self.writable = buffer is None
        if buffer is None:
            padded = -(-nbytes // _PADDING) * _PADDING
            buffer = np.empty(padded, np.uint8)
        self.buffer = buffer
        self.typed: dict[DType, Any] = {}

    def poison(self, dtype: DType) -> None:
        """Fill the memory with what tells it from results, and take it for written."""
        if dtype.is_integer:
            self.buffer[: self.nbytes].view(dtype.np).fill(_POISON_INTEGER)
        else:
            self.buffer.fill(_POISON_BYTE)
        self.fill()

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

    `matmul` tells what of it a matmul has written since the tensor was made; it is None while
    that is nothing, or (then `all_matmul` is true) everything. In an arena `mark` stands for the
    tensor in the mask, and `own` tells what of it was written through the tensor itself. `views`
    are arrays over the bytes, for an access and an offset each.
    """

    __slots__ = (
        "tensor", "memory", "base", "pitch", "dense", "nbytes", "mark", "own", "matmul",
        "all_matmul", "views",
    )  # fmt: skip

    def __init__(self, tensor: Tensor, memory: Memory, base: int = 0, pitch: int = 0) -> None:
        self.tensor = tensor
        self.mark = WRITTEN
        self.own: Written | None = None
        self.matmul: Written | None = None
        self.all_matmul = False
        self.nbytes = tensor.nbytes
        self.move(memory, base, pitch or tensor.partition_bytes)

    def renew(self, tensor: Tensor) -> None:
        """Become the storage, not written yet, of another tensor of the same shape and kind."""
        self.tensor = tensor
        self.matmul = None
        self.all_matmul = False
        self.memory.forget()

    def move(self, memory: Memory, base: int, pitch: int) -> None:
        """Bind the tensor to bytes of a memory."""
        self.views: dict[tuple[object, int], Any] = {}
        self.memory = memory
        self.base = base
        self.pitch = pitch
        self.dense = memory.counted and base == 0 and pitch == self.tensor.partition_bytes

    def make_writable(self) -> None:
        """Replace bytes that belong to the caller by a copy."""
        self.memory.own()
        self.views.clear()

    def rows(self, buffer: Bytes) -> Bytes:
        """Return the tensor's bytes in a buffer as [partitions, bytes] (one row in HBM)."""
        tensor = self.tensor
        if not tensor.buffer.is_on_chip:
            return buffer[self.base : self.base + self.nbytes].reshape(1, -1)
        shape = (tensor.shape[0], tensor.partition_bytes)
        return np.ndarray(shape, np.uint8, buffer, self.base, (self.pitch, 1))


class Arena:
    """The bytes of one memory of a core in which the tensors lie that the user placed.

    On chip these are all bytes; in HBM they grow with the tensors.
    """

    def __init__(
        self, core: NeuronCore, buffer: MemoryRegion, poison: bool, owners: Owners
    ) -> None:
        in_psum = buffer is MemoryRegion.psum
        size = core.psum_bytes_per_partition if in_psum else core.sbuf_bytes_per_partition
        self._pitch = size if buffer.is_on_chip else 0
        self._placed: list[Storage] = []
        self._poison = poison
        self._owners = owners
        self._memory = _uncounted(self._pitch * core.partitions, poison, owners)

    def place(self, tensor: Tensor) -> Storage:
        """Return the storage of a tensor at its address."""
        if isinstance(tensor.address, tuple):
            partition, byte = tensor.address
            made = Storage(tensor, self._memory, partition * self._pitch + byte, self._pitch)
        else:
            assert tensor.address is not None
            end = tensor.address + tensor.nbytes
            if end > len(self._memory.buffer):
                self._grow(max(end, 2 * len(self._memory.buffer)))
            made = Storage(tensor, self._memory, tensor.address)
            self._placed.append(made)
        made.mark = self._owners.mark(tensor)
        made.own = Written(tensor.nbytes, _row_bytes(tensor))
        return made

    def _grow(self, size: int) -> None:
        old, self._memory = self._memory, _uncounted(size, self._poison, self._owners)
        self._memory.buffer[: len(old.buffer)] = old.buffer
        self._memory.make_mask()[: len(old.buffer)] = old.make_mask()
        for storage in self._placed:
            storage.move(self._memory, storage.base, storage.pitch)


class Machine:
    """The memories and accumulator registers of one core while programs run on it.

    `shared` holds the tensors in shared_hbm, for all the cores of a rank; `meet` carries out an
    instruction together with other cores. With `poison`, fresh memory holds NaN (integers 4, as in
    AWS's simulator) and may be read; without it that is an error. `on_loss` gets a message for
    each read of a placed tensor that another one has taken over.
    """

    def __init__(
        self,
        core: NeuronCore,
        backend: str | Backend = "numpy",
        policy: NumericsPolicy = DEFAULT_POLICY,
        *,
        shared: dict[Tensor, Storage] | None = None,
        meet: Callable[[Meeting, Operands], None] | None = None,
        poison: bool = False,
        on_loss: Callable[[str], None] | None = None,
    ) -> None:
        self.core = core
        self._on_loss = on_loss
        self._poison = poison
        self._shared: dict[Tensor, Storage] = {} if shared is None else shared
        self._meet = meet
        self.on_address: Callable[[Tensor, Any], None] | None = None
        """Gets the tensor and place of each DMA operand that is addressed at run time, or the
        places of its rows."""
        self.on_duplicate: Callable[[str], None] | None = None
        """Gets a message where one transfer writes different values to one place."""
        self.backend: Backend = get_backend(backend) if isinstance(backend, str) else backend
        self.policy = policy
        self.ops: Any = (
            _UnguardedOps(self.backend) if self.backend.name == "numpy" else self.backend
        )
        self.storages: dict[Tensor, Storage] = {}
        """Where the tensors lie that have been used."""
        self._free: dict[tuple[StorageKind, tuple[int, ...]], list[Storage]] = {}
        self._arenas: dict[MemoryRegion, Arena] = {}
        self._scratch: dict[tuple[object, tuple[int, ...]], Any] = {}
        self._counter = 0
        self._registers: dict[str, tuple[Any, npt.NDArray[np.bool_]]] = {}
        self.generators: dict[str, npt.NDArray[np.uint32]] = {}

    def storage(self, tensor: Tensor) -> Storage:
        """Return where a tensor's bytes are, allocating them on first use."""
        found = self.storages.get(tensor)
        if found is not None:
            return found
        if not tensor.aliases:
            free = self._free.get((tensor.kind, tensor.shape))
            if free:
                found = self.storages[tensor] = free.pop()
                found.renew(tensor)
                if self._poison:
                    found.memory.poison(tensor.dtype)
                return found
        found = self._shared.get(tensor) or self._allocate(tensor)
        self._keep(found)
        return found

    def _keep(self, storage: Storage) -> None:
        self.storages[storage.tensor] = storage
        if storage.tensor.buffer is MemoryRegion.shared_hbm:
            self._shared[storage.tensor] = storage

    def _allocate(self, tensor: Tensor) -> Storage:
        if not tensor.aliases or tensor.address is None:
            storage = Storage(tensor, Memory(tensor.nbytes, _row_bytes(tensor)))
            if self._poison:
                storage.memory.poison(tensor.dtype)
            return storage
        if tensor.buffer not in self._arenas:
            owners = Owners(self._on_loss)
            self._arenas[tensor.buffer] = Arena(self.core, tensor.buffer, self._poison, owners)
        return self._arenas[tensor.buffer].place(tensor)

    def release(self, tensor: Tensor) -> None:
        """Forget the contents of a tensor that nothing will read again; reuse its bytes.

        A tensor of the same shape and kind gets the same storage, for which the views that
        instructions prepared still hold.
        """
        if tensor.aliases:
            return
        storage = self.storages.pop(tensor, None)
        if storage is None or not storage.memory.writable:
            return
        try:
            self._free[tensor.kind, tensor.shape].append(storage)
        except KeyError:
            if tensor.buffer.is_on_chip:
                self._free[tensor.kind, tensor.shape] = [storage]

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
        memory = Memory(tensor.nbytes, _row_bytes(tensor), array.reshape(-1).view(np.uint8))
        memory.fill()
        storage = self.storages.get(tensor)
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
        storage.make_writable()
        rows = storage.rows(memory.buffer)
        np.copyto(rows, np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(rows.shape))
        if memory.counted:
            memory.fill()
        else:
            storage.rows(memory.make_mask())[...] = storage.mark
            if storage.own is not None:
                storage.own.fill()

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

    def scratch(self, slot: object, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return fp32 memory for values within an instruction: one array for a slot and shape."""
        found = self._scratch.get((slot, shape))
        if found is None:
            found = self._scratch[slot, shape] = np.empty(shape, np.float32)
        return found

    def stored(self, tensor: Tensor) -> Bytes:
        """Return the bytes of a tensor in HBM as they are, written or not."""
        storage = self.storage(tensor)
        return storage.memory.buffer[storage.base : storage.base + storage.nbytes]

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


def _uncounted(nbytes: int, poison: bool, owners: Owners) -> Memory:
    """Return the memory of an arena, whose mask tells what is written."""
    memory = Memory(nbytes, max(1, nbytes), counted=False)
    memory.owners = owners
    mask = memory.make_mask()
    if poison:
        memory.buffer.fill(_POISON_BYTE)
        mask.fill(WRITTEN)
    return memory


def _row_bytes(tensor: Tensor) -> int:
    """Return the bytes of a partition, or of an innermost row in HBM."""
    shape = tensor.shape
    if tensor.buffer.is_on_chip or len(shape) < 2:
        return tensor.nbytes // (shape[0] if tensor.buffer.is_on_chip else 1)
    return shape[-1] * tensor.dtype.itemsize


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
