"""Which HBM tensors of a program hold the inputs, outputs and parameters of a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from emuron.compiler.graph import Graph, Value
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.view import LogicalView
from emuron.compiler.ops import Autocast
from emuron.isa.affine import Index
from emuron.isa.tensor import Tensor
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """An HBM tensor of the program and the graph values whose data it holds, one after another.

    `packing` reorders a parameter's data (None: as it is); `dtype` is what it is rounded to.
    """

    tensor: Tensor
    values: tuple[Value, ...]
    packing: Any
    dtype: DType


class Bindings:
    """Grows while a graph is lowered.

    In the body of repeated layers `stacks` maps a layer's own values to those of all layers, which
    lie in one tensor, and `index` counts the layers.
    """

    def __init__(self, graph: Graph, cast: Autocast, k: KernelContext) -> None:
        self.cast = cast
        self.k = k
        self.inputs: dict[Value, Binding] = {}
        self.outputs: dict[Value, Binding] = {}
        self.stacks: dict[Value, tuple[Value, ...]] = {}
        self.index: Index | None = None
        self._graph = graph
        self._parameters: dict[tuple[object, ...], tuple[Binding, Placed]] = {}
        self._weights = {p.value for p in graph.parameters}

    @property
    def parameters(self) -> tuple[Binding, ...]:
        """The tensors of parameters."""
        return tuple(binding for binding, _ in self._parameters.values())

    def is_parameter(self, value: Value) -> bool:
        """Tell whether a value is a weight."""
        return value in self._weights

    def is_given(self, value: Value) -> bool:
        """Tell whether a value is a weight or an input that was read before."""
        return value in self._weights or value in self.inputs

    def given(self, value: Value, packing: Any = None, dtype: DType | None = None) -> Placed:
        """Return a parameter or graph input; of a repeated layer, its slice of the stack."""
        stack = self._stack(value)
        dtype = dtype or self.cast.written(value.type.dtype)
        if value not in self._weights:
            return self._slice(self._input(stack), len(stack), value.shape)
        key = (stack, packing, dtype)
        shape = packing.shape if packing is not None else value.shape
        if key not in self._parameters:
            made = self._made(stack, shape, dtype, value.name, "parameter")
            self._parameters[key] = (Binding(made.storage.tensor, stack, packing, dtype), made)
        found = self._slice(self._parameters[key][1], len(stack), shape)
        found.packing = packing
        return found

    def output(self, value: Value) -> Placed:
        """Return where an output is written; of a repeated layer, its slice of the stack."""
        stack = self._stack(value)
        if value not in self.outputs:
            dtype = self.cast.written(value.type.dtype)
            made = self._made(stack, value.shape, dtype, f"{value.name}.out", "output")
            binding = Binding(made.storage.tensor, stack, None, dtype)
            self.outputs.update(dict.fromkeys(stack, binding))
        whole = Placed(NkiTensor(self.outputs[value].tensor), LogicalView.dense(value.shape))
        return self._slice(whole, len(stack), value.shape)

    def take_over(self, value: Value, source: Value) -> None:
        """Let an output take over the memory of the input it replaces (a KV cache)."""
        stack = self._stack(value)
        binding = replace(self.inputs[source], values=stack)
        self.outputs.update(dict.fromkeys(stack, binding))

    def _stack(self, value: Value) -> tuple[Value, ...]:
        return self.stacks.get(value, (value,)) if self.index is not None else (value,)

    def _input(self, stack: tuple[Value, ...]) -> Placed:
        value = stack[0]
        if value not in self.inputs:
            dtype = self.cast.written(value.type.dtype)
            made = self._made(stack, value.shape, dtype, value.name, "input")
            binding = Binding(made.storage.tensor, stack, None, dtype)
            self.inputs.update(dict.fromkeys(stack, binding))
        return Placed(NkiTensor(self.inputs[value].tensor), LogicalView.dense(value.shape))

    def _made(
        self, stack: tuple[Value, ...], shape: tuple[int, ...], dtype: DType, name: str, role: str
    ) -> Placed:
        whole = (len(stack), *shape) if len(stack) > 1 else shape
        return self.k.hbm(whole, dtype, name, role)

    def _slice(self, whole: Placed, count: int, shape: tuple[int, ...]) -> Placed:
        if count == 1:
            return Placed(whole.storage.reshape(shape or (1,)), LogicalView.dense(shape))
        assert self.index is not None
        tensor = whole.storage.tensor
        storage = NkiTensor(tensor, shape or (1,), None, self.index * prod(shape))
        return Placed(storage, LogicalView.dense(shape))
