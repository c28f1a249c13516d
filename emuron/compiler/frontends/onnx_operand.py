"""A tensor of an ONNX model while it is read: numbers known now, a weight, or a graph's value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from emuron.compiler.frontends.onnx_types import element_of, element_of_array, narrowed, type_of
from emuron.compiler.frontends.weights import Loader
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.ops.creation import MOST_CONSTANT_ELEMENTS
from emuron.errors import UnsupportedOpError

MOST_KNOWN_ELEMENTS = 1 << 20
"""Longer stored tensors are weights even if they hold integers."""

MOST_VALUE_BYTES = 1 << 36
"""A tensor beyond this (64 GiB) fits no core of any chip."""

_LARGEST_EXACT_INTEGER = 1 << 24
_FEWEST_WEIGHT_ELEMENTS = 2


@dataclass(slots=True, eq=False)
class Operand:
    """A named tensor; `source` reads its numbers if they are known, `stored` if a file has them."""

    name: str
    element: int
    shape: tuple[int, ...]
    source: Loader | None = None
    value: Value | None = None
    is_stored: bool = False
    _data: np.ndarray | None = None

    @classmethod
    def of_array(cls, name: str, array: np.ndarray) -> Operand:
        """Return numbers that are known."""
        return cls(name, element_of_array(array), array.shape, partial(_itself, array))

    @classmethod
    def of_value(cls, name: str, value: Value, element: int | None = None) -> Operand:
        """Return a value of the graph; its element type is told if a wider one stands for it."""
        found = element_of(value.type.dtype) if element is None else element
        return cls(name, found, value.shape, value=value)

    @property
    def is_weight(self) -> bool:
        """Whether it stands in a file and is long enough to be left there."""
        dtype = type_of(self.element, (), self.name).dtype
        learnt = dtype.is_float or (dtype.is_integer and dtype.itemsize == 1)
        few = _FEWEST_WEIGHT_ELEMENTS if learnt else MOST_CONSTANT_ELEMENTS + 1
        return self.is_stored and math.prod(self.shape) >= few

    @property
    def data(self) -> np.ndarray | None:
        """The numbers, None where they depend on inputs or are so many that they are weights."""
        if self._data is None and self.source is not None:
            if self.is_stored and math.prod(self.shape) > MOST_KNOWN_ELEMENTS:
                return None
            self._data = self.source()
        return self._data


class OperandStore:
    """Turns operands into values of the graph: parameters, constants, fills."""

    def __init__(self, builder: GraphBuilder, *, with_data: bool) -> None:
        """Write into `builder`; without `with_data` parameters have no loaders."""
        self.b = builder
        self.with_data = with_data
        self._owners: dict[str, Operand] = {}

    def value(self, operand: Operand) -> Value:
        """Return the value of an operand; numbers become a parameter, or a constant if few."""
        if operand.value is None:
            operand.value = self._made(operand)
        return operand.value

    def _made(self, operand: Operand) -> Value:
        if _may_be_angles(operand) and (data := operand.data) is not None:
            first, second = np.split(data, 2, -1)
            if (first == second).all() and not (first == first.flat[0]).all():
                return self._doubled(operand, first)
        if operand.is_weight:
            return self.weight(operand)
        data = operand.data
        if data is None:
            raise UnsupportedOpError(f"{operand.name!r} is neither known nor computed")
        type = type_of(operand.element, operand.shape, f"tensor {operand.name!r}")
        array = narrowed(data, type.dtype, f"tensor {operand.name!r}")
        if array.size and (array == array.flat[0]).all():
            return self.b.full(
                _numbers(array[:1] if array.ndim else array)[0], type.shape, type.dtype
            )
        if array.size <= MOST_CONSTANT_ELEMENTS and _is_exact(array):
            return self.b.constant(_numbers(array), type)
        name = f"constant[{self._name(operand)}]"
        return self._parameter(name, type, partial(_itself, array))

    def _doubled(self, operand: Operand, half: np.ndarray) -> Value:
        """Return numbers of which the file holds the last dimension twice, once in the graph."""
        source = partial(_itself, half)
        held = self.value(
            Operand(operand.name, operand.element, half.shape, source, is_stored=operand.is_stored)
        )
        return self.b.concat([held, held], half.ndim - 1)

    def array(self, name: str, array: np.ndarray) -> Value:
        """Return numbers as a value of the graph."""
        return self.value(Operand.of_array(name, array))

    def weight(self, operand: Operand, *, transposed: bool = False) -> Value:
        """Return a stored tensor as a parameter; a matrix `transposed` if asked for."""
        assert operand.source is not None
        type = type_of(operand.element, operand.shape, f"weight {operand.name!r}")
        loader = partial(_narrowed, operand.source, type, operand.name)
        name = self._name(operand)
        if transposed:
            type, name = type.with_shape(*type.shape[::-1]), f"{name}[T]"
            loader = partial(_transposed, loader)
        return self._parameter(name, type, loader)

    def _name(self, operand: Operand) -> str:
        """Return a name of its own for an operand: bodies that repeat use names again."""
        name, count = operand.name, 1
        while self._owners.setdefault(name, operand) is not operand:
            count += 1
            name = f"{operand.name}#{count}"
        return name

    def part(self, operand: Operand, index: int, start: int, stop: int) -> Value:
        """Return entry `index` of a stored tensor, rows start..stop of it, as a parameter."""
        assert operand.source is not None
        _, _, *rest = operand.shape
        what = f"weight {operand.name!r}"
        type = type_of(operand.element, (stop - start, *rest), what)
        loader = partial(
            _rows, partial(_narrowed, operand.source, type, operand.name), index, start, stop
        )
        return self._parameter(f"{self._name(operand)}[{index},{start}:{stop}]", type, loader)

    def _parameter(self, name: str, type: TensorType, loader: Loader) -> Value:
        return self.b.parameter(name, type, loader if self.with_data else None)

    def inputs_behind(self, operand: Operand) -> tuple[str, ...]:
        """Return the names of the graph's inputs that an operand depends on."""
        if operand.value is None:
            return ()
        return tuple(dict.fromkeys(v.name for v in self.b.inputs_behind(operand.value)))


def _may_be_angles(operand: Operand) -> bool:
    """Whether a table [1 ..., positions, angles] may be that of rotary embeddings.

    Theirs hold every angle twice, for the two halves of a head.
    """
    *ones, positions, angles = operand.shape if len(operand.shape) > 2 else (0, 0, 0)
    floats = type_of(operand.element, (), operand.name).dtype.is_float
    return floats and set(ones) == {1} and positions * angles > 0 and angles % 2 == 0


def _itself(array: np.ndarray) -> np.ndarray:
    return array


def _narrowed(source: Loader, type: TensorType, name: str) -> np.ndarray:
    return narrowed(source(), type.dtype, f"weight {name!r}")


def _rows(source: Loader, index: int, start: int, stop: int) -> np.ndarray:
    return source()[index, start:stop]


def _transposed(source: Loader) -> np.ndarray:
    return source().T


def _is_exact(array: np.ndarray) -> bool:
    """Whether a constant, whose numbers pass through float32, holds the array exactly."""
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 4:
        return True
    return bool((np.abs(array.astype(np.int64)) <= _LARGEST_EXACT_INTEGER).all())


def _numbers(array: np.ndarray) -> tuple[float, ...]:
    """Return the numbers of an array as Python's, in row-major order."""
    exact = array if array.dtype.kind in "iub" else array.astype(np.float32)
    return tuple(exact.reshape(-1).tolist())
