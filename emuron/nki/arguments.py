"""Arguments of a kernel: arrays in, tensors for the kernel, arrays out again."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emuron.errors import UsageError
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.nki.arrays import (
    ShapeDtype,
    cast,
    described,
    framework_of,
    is_array,
    like,
    to_numpy,
    write_back,
)
from emuron.nki.earlier_forms import use
from emuron.nki.objects import NKIObject
from emuron.nki.recorder import Recorder
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float8_e4m3, float8_e4m3fn
from emuron.numerics.dtypes import dtype as to_dtype
from emuron.sim.machine import Machine

ALIAS_SUFFIX = ".must_alias_input"
"""Marks, at the end of a keyword, an argument that the kernel also writes (NKI's test harness)."""


class Arguments:
    """The tensors that stand for one rank's arrays; each array has one, however often it is given.

    Arrays in lists, tuples, dicts, dataclasses and NKIObjects count too; what holds none is passed
    as it is. `buffer` is the memory of the tensors. Without a machine nothing is executed, and
    `given` has the array (or shape) of each tensor.
    """

    def __init__(self, recorder: Recorder, machine: Machine | None, buffer: MemoryRegion) -> None:
        self._recorder = recorder
        self._machine = machine
        self._buffer = buffer
        self._made: dict[int, tuple[NkiTensor, Any, str]] = {}
        self.given: dict[Tensor, Any] = {}

    def positional(self, args: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """Return positional arguments as the kernel gets them."""
        return [self._into(value, name) for value, name in zip(args, names, strict=True)]

    def named(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return keyword arguments as the kernel gets them."""
        plain = {name.removesuffix(ALIAS_SUFFIX): value for name, value in kwargs.items()}
        return {name: self._into(value, name) for name, value in plain.items()}

    def outputs(self, returned: Any) -> Any:
        """Return what the kernel returned with arrays for its tensors (None without data).

        The arrays are of the framework of the arguments. Raises UsageError for tensors on chip.
        """
        return mapped(returned, lambda value: isinstance(value, NkiTensor), self._array)

    def write_back(self, returned: Any) -> None:
        """Put the contents of tensors that the kernel wrote to into their arrays.

        One that cannot be updated (JAX's) must be among what the kernel returned, else UsageError.
        """
        assert self._machine is not None
        seen: set[int] = set()
        mapped(returned, lambda v: isinstance(v, NkiTensor), lambda v, _: seen.add(id(v.tensor)))
        for view, value, name in self._made.values():
            if self._machine.changed(view.tensor):
                contents = self._machine.read(view.tensor).reshape(value.shape)
                returns = id(view.tensor) in seen
                write_back(value, contents, view.dtype, name, returned=returns)

    def _into(self, value: Any, name: str) -> Any:
        return mapped(value, is_array, self._tensor, name)

    def _tensor(self, value: Any, name: str) -> NkiTensor:
        found = self._made.get(id(value))
        if found is not None:
            return found[0]
        spec = described(value, name)
        kind = self._stored_as(to_dtype(spec.dtype))
        tensor = self._recorder.tensor(
            spec.shape or (1,), kind, self._buffer, name=name, role="input"
        )
        if self._machine is not None:
            if isinstance(value, ShapeDtype):
                raise UsageError(
                    f"Argument {name} has a shape but no data; run with execute=False to time the "
                    "kernel without data."
                )
            self._machine.bind(tensor, cast(to_numpy(value), to_dtype(spec.dtype), kind))
        else:
            self.given[tensor] = value
        made = NkiTensor(tensor)
        self._made[id(value)] = (made, value, name)
        return made

    def _stored_as(self, kind: DType) -> DType:
        """Return float8_e4m3 for float8_e4m3fn where the chip lacks that, as the compiler does."""
        lacking = kind == float8_e4m3fn and kind not in self._recorder.core.dtypes
        return float8_e4m3 if lacking else kind

    def _array(self, returned: NkiTensor, name: str) -> Any:
        tensor = returned.tensor
        if tensor.role != "input":
            if tensor.buffer.is_on_chip:
                raise UsageError(
                    f"The kernel returns '{tensor.name}', which lies in {tensor.buffer.value}. "
                    "Outputs are allocated with nl.ndarray(…, buffer=nl.shared_hbm)."
                )
            if tensor.buffer is MemoryRegion.private_hbm:
                use("hbm output")
            tensor.role = "output"
        contents = self._recorder.contents(returned)
        if contents is None:
            return None
        return like(self._framework(), contents, returned.dtype)

    def _framework(self) -> str:
        """Return the framework of the first array that is not NumPy's, if there is one."""
        frameworks = [framework_of(value) for _, value, _ in self._made.values()]
        return next((name for name in frameworks if name not in (None, "numpy")), None) or "numpy"


def mapped(
    value: Any, chosen: Callable[[Any], bool], change: Callable[[Any, str], Any], name: str = ""
) -> Any:
    """Return a value with each chosen part, also inside of containers and objects, changed.

    Containers and objects in which nothing changes are returned as they are. `name` says where a
    part stands.
    """
    if chosen(value):
        return change(value, name)
    if isinstance(value, list | tuple):
        parts = [mapped(v, chosen, change, f"{name}[{i}]") for i, v in enumerate(value)]
        if not _differ(value, parts):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        items = {k: mapped(v, chosen, change, f"{name}[{k!r}]") for k, v in value.items()}
        return items if _differ(value.values(), items.values()) else value
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value) or isinstance(value, NKIObject):
        return _mapped_object(value, chosen, change, name)
    return value


def _differ(before: Any, after: Any) -> bool:
    return any(a is not b for a, b in zip(before, after, strict=True))


def _mapped_object(
    value: Any, chosen: Callable[[Any], bool], change: Callable[[Any, str], Any], name: str
) -> Any:
    names = set(getattr(value, "__dict__", ()))
    if dataclasses.is_dataclass(value):
        names.update(field.name for field in dataclasses.fields(value))
    before = {n: getattr(value, n) for n in sorted(names) if hasattr(value, n)}
    after = {n: mapped(v, chosen, change, f"{name}.{n}") for n, v in before.items()}
    if not _differ(before.values(), after.values()):
        return value
    made = copy.copy(value)
    for attribute, part in after.items():
        object.__setattr__(made, attribute, part)  # frozen dataclasses too
    return made
