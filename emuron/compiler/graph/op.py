"""What every graph operation is: attributes, type inference and reference semantics."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from emuron.compiler.graph.tensor_type import TensorType
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType

Array = Any
"""An array of the backend in use (NumPy or torch); opaque to the graph."""


@dataclasses.dataclass(frozen=True, slots=True)
class Op:
    """One operation; subclasses are frozen dataclasses whose fields are the attributes.

    `evaluate` is the meaning: it sees float32 working arrays unless `moves_storage` is set, in
    which case it sees the stored elements and returns stored elements of its inferred dtype.
    Operands listed in `contracts` feed a matrix product: they come rounded to the auto-cast dtype.
    """

    name: ClassVar[str] = ""
    moves_storage: ClassVar[bool] = False
    contracts: ClassVar[tuple[int, ...]] = ()

    def takes_storage(self, types: tuple[TensorType, ...]) -> bool:
        """Tell whether `evaluate` sees stored elements of operands of these types."""
        return self.moves_storage

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the output types, or raise an EmuronError that names the operand at fault."""
        raise NotImplementedError(f"{type(self).__name__}.infer")

    def evaluate(self, ev: Any, *arrays: Array) -> tuple[Array, ...]:
        """Return the outputs before the final rounding; `ev` is an EvalContext."""
        raise NotImplementedError(f"{type(self).__name__}.evaluate")

    def lower(self, k: Any, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        """Write the kernel that computes the outputs; `k` is a KernelContext, operands are Placed.

        Raises UnsupportedOpError where the op, or these operands, have no kernel.
        """
        raise UnsupportedOpError(
            f"the compiler has no kernel for {self.name} yet; rewrite it with other operators, or "
            "run the model in operator fidelity without timing"
        )

    def packing(self, operand: int, types: tuple[TensorType, ...], dtype: DType) -> Any:
        """Return how a weight operand lies in HBM, or None for its own row-major form."""
        return None

    def weight_order(self, operand: int, rank: int) -> tuple[int, ...] | None:
        """Return the axes of a weight operand from far to near in memory, as `evaluate` reads it
        fastest, or None for any order.
        """
        return None

    def flops(self, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...]) -> int:
        """Return the arithmetic of the op: by default one operation for each element it writes."""
        return 0 if self.moves_storage else sum(t.elements for t in outputs)

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """Return small input specifications (Example) for the automatic tests."""
        return ()

    def attributes(self) -> dict[str, object]:
        """Return the attributes by name, in the order of declaration."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
