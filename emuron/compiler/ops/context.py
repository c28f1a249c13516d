"""What an operator's `evaluate` is given: the array back end and the rounding rules."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import Array, Op, TensorType
from emuron.errors import UnknownNameError
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import DType, bfloat16, dtype, float32
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy

_MODES = ("none", "matmult", "all")
_SHORT_NAMES = {"bf16": "bfloat16", "fp16": "float16", "tf32": "tfloat32", "fp8": "float8_e4m3"}


@dataclass(frozen=True, slots=True)
class Autocast:
    """The compiler's automatic casts (`--auto-cast`, `--auto-cast-type` of neuronx-cc).

    `matmult` rounds the float32 operands of contractions; `all` also rounds every float32 value,
    parameters and inputs included. Values of other dtypes are never touched.
    """

    mode: str = "none"
    dtype: DType = bfloat16

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise UnknownNameError("auto-cast mode", self.mode, _MODES)
        object.__setattr__(self, "dtype", dtype(_SHORT_NAMES.get(self.dtype, self.dtype)))

    def operand(self, stored: DType) -> DType:
        """Return the dtype in which a contraction reads an operand stored as `stored`."""
        return self.dtype if self.mode != "none" and stored == float32 else stored

    def written(self, stored: DType) -> DType:
        """Return the dtype to which an op's output of dtype `stored` is rounded."""
        return self.dtype if self.mode == "all" and stored == float32 else stored


NO_AUTOCAST = Autocast()
"""Contractions read what is stored."""


@dataclass(frozen=True, slots=True)
class EvalContext:
    """Back end, rounding policy and casts of one evaluation of one node.

    `types` are the types of its inputs, `owned` the numbers of those that it may overwrite.
    """

    backend: Backend
    policy: NumericsPolicy = DEFAULT_POLICY
    cast: Autocast = NO_AUTOCAST
    types: tuple[TensorType, ...] = ()
    owned: frozenset[int] = frozenset()

    def rounded(self, x: Array, to: DType) -> Array:
        """Return the float32 array `x` on the grid of `to`, still as float32."""
        if to == float32:
            return x
        return self.backend.widen(self.backend.round_to(x, to, self.policy), to)

    def store(self, working: Array, to: DType) -> Array:
        """Return a float32 working array as it is stored: rounded by the casts, then to `to`."""
        working = self.rounded(working, self.cast.written(to))
        return working if to == float32 else self.backend.round_to(working, to, self.policy)

    def operand_like(self, x: Array, operand: int) -> Array:
        """Return the float32 array `x` as a contraction reads operand number `operand`."""
        return self.rounded(x, self.cast.operand(self.types[operand].dtype))

    def exact_products(self, *operands: int) -> bool:
        """Tell whether products of operands as a contraction reads them are exact in float32."""
        forms = (self.cast.operand(self.types[i].dtype) for i in operands)
        return all(form.mantissa_bits < 12 for form in forms)

    def writable(self, x: Array, operand: int) -> Array:
        """Return the stored array `x` of an operand itself if the node owns it, else a copy."""
        if operand in self.owned:
            return x
        copy = self.backend.empty(tuple(x.shape), self.types[operand].dtype)
        self.backend.copyto(copy, x)
        return copy


@dataclass(frozen=True, slots=True)
class Example:
    """One small input specification: an op, its input types and a range of values for each.

    A range is (low, high), inclusive for integers; it defaults to (-2, 2), and 0/1 for booleans.
    """

    op: Op
    types: tuple[TensorType, ...]
    ranges: tuple[tuple[float, float], ...] = ()
