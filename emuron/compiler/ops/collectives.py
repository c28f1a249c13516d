"""Operators in which all ranks of a model exchange values: each names the number of ranks.

`infer` and `lower` are those of one rank. `evaluate` is that of all of them at once: it takes the
operand of every rank, in order, and returns the result of every rank.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import ClassVar

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import collectives as kernel
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_axis, require_float, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import bfloat16, float32


@dataclass(frozen=True, slots=True)
class RankOp(Op):
    """What the operators over ranks have in common; a graph with one is that of one rank."""

    ranks: int

    def _checked(self, types: tuple[TensorType, ...]) -> TensorType:
        require_operands(types, "x")
        require(self.ranks >= 1, f"ranks must be at least 1, found {self.ranks}")
        return types[0]

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return one rank alone, for which every exchange is a copy."""
        attributes = (1,) if len(dataclasses.fields(cls)) == 1 else (1, 1)
        types = TensorType((3, 10), float32), TensorType((2, 4, 6), bfloat16)
        return tuple(Example(cls(*attributes), (t,)) for t in types)


@op("all_reduce")
@dataclass(frozen=True, slots=True)
class AllReduce(RankOp):
    """y of every rank = the sum of the x of all, added in float32 in their order, rounded once."""

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        x = self._checked(types)
        require_float(x, "x")
        return (x,)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the sum, once for each rank."""
        return (functools.reduce(ev.backend.add, arrays),) * len(arrays)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Let the ranks add from HBM to HBM."""
        kernel.all_reduce(k, self.ranks, inputs[0], outputs[0])


@op("all_gather")
@dataclass(frozen=True, slots=True)
class AllGather(RankOp):
    """y of every rank = the x of all ranks, one after another along `axis`."""

    axis: int
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type with dimension `axis` as often as there are ranks."""
        x = self._checked(types)
        require_axis(self.axis, x.rank)
        shape = list(x.shape)
        shape[self.axis] *= self.ranks
        return (x.with_shape(*shape),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the joined array, once for each rank."""
        return (ev.backend.concatenate(arrays, self.axis),) * len(arrays)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Gather rank after rank in HBM, then bring the parts to their places along `axis`."""
        kernel.all_gather(k, self.ranks, self.axis, inputs[0], outputs[0])


@op("reduce_scatter")
@dataclass(frozen=True, slots=True)
class ReduceScatter(RankOp):
    """y of rank n = part n, along `axis`, of the sum of the x of all ranks."""

    axis: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type with dimension `axis` divided among the ranks."""
        x = self._checked(types)
        require_float(x, "x")
        require_axis(self.axis, x.rank)
        shape = list(x.shape)
        require(
            shape[self.axis] % self.ranks == 0,
            f"dimension {self.axis} of {x} does not divide among {self.ranks} ranks",
        )
        shape[self.axis] //= self.ranks
        return (x.with_shape(*shape),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return each rank's part of the sum."""
        total = functools.reduce(ev.backend.add, arrays)
        size = total.shape[self.axis] // len(arrays)
        before = (slice(None),) * self.axis
        return tuple(
            total[(*before, slice(rank * size, (rank + 1) * size))] for rank in range(len(arrays))
        )

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Let the ranks add and scatter in HBM, with the parts one after another."""
        kernel.reduce_scatter(k, self.ranks, self.axis, inputs[0], outputs[0])


@op("all_to_all")
@dataclass(frozen=True, slots=True)
class AllToAll(RankOp):
    """y of rank n = the n-th parts, along `split`, of the x of all ranks, joined along `axis`."""

    axis: int
    split: int = 0
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type with `split` divided among the ranks and `axis` as often as they are."""
        x = self._checked(types)
        require_axis(self.axis, x.rank)
        require_axis(self.split, x.rank, "split")
        shape = list(x.shape)
        require(
            shape[self.split] % self.ranks == 0,
            f"dimension {self.split} of {x} does not divide among {self.ranks} ranks",
        )
        shape[self.split] //= self.ranks
        shape[self.axis] *= self.ranks
        return (x.with_shape(*shape),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return each rank's parts of all, joined."""
        size = arrays[0].shape[self.split] // len(arrays)
        before = (slice(None),) * self.split
        return tuple(
            ev.backend.concatenate(
                [a[(*before, slice(rank * size, (rank + 1) * size))] for a in arrays], self.axis
            )
            for rank in range(len(arrays))
        )

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Exchange parts in HBM, one after another, then bring them to their places."""
        kernel.all_to_all(k, self.ranks, self.axis, self.split, inputs[0], outputs[0])


@op("collective_permute")
@dataclass(frozen=True, slots=True)
class CollectivePermute(RankOp):
    """y of rank t = the x of rank s for each pair (s, t); zeros for a rank that is no target."""

    pairs: tuple[tuple[int, int], ...] = ((0, 0),)
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type; no rank may be a source, or a target, twice."""
        x = self._checked(types)
        for side in zip(*self.pairs, strict=True):
            within = all(0 <= rank < self.ranks for rank in side)
            require(
                within and len(set(side)) == len(side),
                f"pairs must name different ranks below {self.ranks}, found {self.pairs}",
            )
        return (x,)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return each target's source."""
        source_of = {target: source for source, target in self.pairs}
        zeros = ev.backend.zeros(ev.types[0].shape, ev.types[0].dtype)
        return tuple(
            arrays[source_of[rank]] if rank in source_of else zeros for rank in range(len(arrays))
        )

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Send from HBM to HBM."""
        kernel.permute(k, self.ranks, self.pairs, inputs[0], outputs[0])

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return one rank that sends to itself."""
        return (Example(cls(1), (TensorType((3, 10), float32),)),)
