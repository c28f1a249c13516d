"""Random numbers: generators in the vector and gpsimd engines, their states, dropout.

The hardware's streams are not published. Here each lane (partition) has a generator whose numbers
depend on its state alone, so that equal states and seeds give equal numbers
(`emuron.numerics.generators`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emuron.isa import limits
from emuron.isa.instruction import Cost, In, Instruction, Out, Scalar, instruction
from emuron.isa.tensor import AccessPattern
from emuron.numerics.generators import draw, initial_state

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
RANDOM_FLOATS = ("float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32")
WORDS = ("int32", "uint32", "float32")
_UNIT_BITS = 24  # of a uniform fp32 number: all steps are equal


def _drawn(
    state: npt.NDArray[np.uint32], dst: AccessPattern
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return 32 random bits for each element of a tile, and the state of all lanes after."""
    lanes = slice(dst.start_partition, dst.start_partition + dst.partitions)
    bits, after = draw(state[lanes], dst.free_size)
    state = state.copy()
    state[lanes] = after
    return bits, state


def _stream(core: NeuronCore, engine: str, elements: float) -> Cost:
    if engine == "gpsimd":
        return Cost(cycles=core.timing.gpsimd_start_cycles + elements)
    return Cost(cycles=limits.stream_cycles(core, elements))


@instruction(engine=("vector", "gpsimd"), nki="rng", source="ISA32 rng; cost assumed")
class Rng(Instruction):
    """dst[P, N] = random bits, the lowest of 32."""

    dst: Out
    engine: str = "vector"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else vector."""
        return "vector" if self.engine == "unknown" else self.engine

    @property
    def raw(self) -> bool:
        """Bits are written as they are."""
        return True

    @property
    def generator(self) -> str | None:
        """The generator of the engine."""
        return self.engine_name

    def check(self, core: NeuronCore) -> None:
        """Refuse floats, and GpSimd where it has no generator or cannot reach dst."""
        limits.check_engine(self, core, "dst")
        limits.check_tile(self, core, "dst")
        limits.check_dtype(self, "dst", INTEGERS)
        if self.engine_name == "gpsimd":
            limits.check_since(self, core, 3)

    def compute(self, ops: Any, state: Any) -> Any:
        """Return the bits and the generator's new state."""
        bits, state = _drawn(state, self.dst)
        size = self.dst.dtype.itemsize
        return ops.asarray(bits.astype(f"uint{8 * size}").view(self.dst.dtype.np)), state

    def cost(self, core: NeuronCore) -> Cost:
        """Return a stream of N elements, assumed: no formula is published."""
        return _stream(core, self.engine_name, self.dst.free_size)


@instruction(engine="vector", nki="rand2", since=4, source="ISA32 rand2; cost A4")
class Rand2(Instruction):
    """dst[P, N] = uniform fp32 numbers from `min` to `max`, each a number or [P, 1]."""

    dst: Out
    min: Scalar
    max: Scalar

    @property
    def generator(self) -> str | None:
        """The generator of the vector engine."""
        return "vector"

    def check(self, core: NeuronCore) -> None:
        """Refuse earlier generations, other dtypes and an empty range."""
        for name in ("dst", "min", "max"):
            limits.check_tile(self, core, name)
        limits.check_dtype(self, "dst", (*RANDOM_FLOATS, *INTEGERS))
        for name in ("min", "max"):
            limits.check_columns(self, name, self.dst.partitions)
            if getattr(self, name) is None:
                raise self.refuse(f"{name} is missing", "Give a number or a [P, 1] tile.")
        low, high = self.min, self.max
        if isinstance(low, int | float) and isinstance(high, int | float) and low >= high:
            raise self.refuse(f"min={low} and max={high}", "min must be below max.")

    def compute(self, ops: Any, low: Any, high: Any, state: Any) -> Any:
        """Return the numbers and the generator's new state."""
        bits, state = _drawn(state, self.dst)
        unit = (bits >> np.uint32(32 - _UNIT_BITS)).astype(np.float32) / np.float32(2**_UNIT_BITS)
        spread = ops.multiply(ops.asarray(unit), high - low)
        return ops.add(spread, low), state

    def cost(self, core: NeuronCore) -> Cost:
        """Return N/4: four numbers a lane and cycle (A4)."""
        return _stream(core, "vector", self.dst.free_size / core.vector.rand2_speedup)


@instruction(engine="vector", nki="dropout", source="ISA32 dropout; cost ISA26")
class Dropout(Instruction):
    """dst[P, N] = data, each element replaced by zero with probability `prob`, number or [P, 1]."""

    dst: Out
    data: In
    prob: Scalar

    @property
    def generator(self) -> str | None:
        """The generator of the vector engine."""
        return "vector"

    @property
    def stored(self) -> tuple[str, ...]:
        """Elements are kept bit by bit."""
        return ("dst", "data")

    def check(self, core: NeuronCore) -> None:
        """Refuse unequal sizes and dtypes and what is no probability."""
        for name in ("dst", "data", "prob"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "data")
        limits.check_same_dtype(self, "dst", "data")
        limits.check_columns(self, "prob", self.data.partitions)
        prob = self.prob
        if isinstance(prob, AccessPattern):
            if not prob.dtype.is_float:
                raise self.refuse(f"prob is {prob.dtype}", "Give float32.")
        elif prob is None or not 0 <= prob <= 1:
            raise self.refuse(f"prob={prob}", "It is 0 to 1: the probability of a zero.")

    def compute(self, ops: Any, data: Any, prob: Any, state: Any) -> Any:
        """Return the elements that are kept and the generator's new state."""
        bits, state = _drawn(state, self.dst)
        limit = np.asarray(prob if isinstance(prob, float | int) else ops.numpy(prob), np.float64)
        kept = bits >= limit * 2.0**32
        stored = ops.numpy(data)
        return ops.asarray(np.where(kept, stored, np.zeros_like(stored))), state

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N) (ISA v2.26)."""
        return _stream(core, "vector", self.data.free_size)


@instruction(engine="vector", nki="set_rng_seed", source="ISA32 set_rng_seed; cost assumed")
class SetRngSeed(Instruction):
    """Seed the generators of all lanes of the vector engine from the 32 bits of src_seeds[1, 1]."""

    src_seeds: In

    @property
    def raw(self) -> bool:
        """The seed is 32 bits of any type."""
        return True

    @property
    def generator(self) -> str | None:
        """The generator of the vector engine."""
        return "vector"

    def check(self, core: NeuronCore) -> None:
        """Refuse more than one element and other sizes of it."""
        limits.check_tile(self, core, "src_seeds")
        limits.check_dtype(self, "src_seeds", WORDS)
        limits.check_columns(self, "src_seeds", 1, 1)

    def compute(self, ops: Any, src_seeds: Any, state: Any) -> Any:
        """Return the generator's new state."""
        seed = int(ops.numpy(src_seeds).view(np.uint32).reshape(-1)[0])
        return (initial_state(seed, *state.shape),)

    def cost(self, core: NeuronCore) -> Cost:
        """Return the least time of an instruction."""
        return _stream(core, "vector", 1)


@instruction(
    engine=("gpsimd", "vector"),
    nki="rand_set_state",
    since=3,
    source="ISA32 rand_set_state; cost assumed",
)
class RandSetState(Instruction):
    """Set the generator state of each lane of src_seeds: [P, 6] on GpSimd, [P, 24] on Vector."""

    src_seeds: In
    engine: str = "gpsimd"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else gpsimd."""
        return "gpsimd" if self.engine == "unknown" else self.engine

    @property
    def raw(self) -> bool:
        """The state is words."""
        return True

    @property
    def generator(self) -> str | None:
        """The generator of the engine."""
        return self.engine_name

    def check(self, core: NeuronCore) -> None:
        """Refuse other sizes and dtypes, and engines without such a generator."""
        _check_state(self, core, "src_seeds", limits.SBUF)

    def compute(self, ops: Any, src_seeds: Any, state: Any) -> Any:
        """Return the generator's new state."""
        first = self.src_seeds.start_partition
        state = state.copy()
        state[first : first + self.src_seeds.partitions] = ops.numpy(src_seeds)
        return (state,)

    def cost(self, core: NeuronCore) -> Cost:
        """Return a stream of the words, assumed: no formula is published."""
        return _stream(core, self.engine_name, self.src_seeds.free_size)


@instruction(
    engine=("gpsimd", "vector"),
    nki="rand_get_state",
    since=3,
    source="ISA32 rand_get_state; cost assumed",
)
class RandGetState(Instruction):
    """Read the generator state of each lane of dst: [P, 6] on GpSimd, [P, 24] on Vector."""

    dst: Out
    engine: str = "gpsimd"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else gpsimd."""
        return "gpsimd" if self.engine == "unknown" else self.engine

    @property
    def raw(self) -> bool:
        """The state is words."""
        return True

    @property
    def generator(self) -> str | None:
        """The generator of the engine."""
        return self.engine_name

    def check(self, core: NeuronCore) -> None:
        """Refuse other sizes and dtypes, and engines without such a generator."""
        later = (core.nc_version or 0) >= 4 and self.engine_name != "gpsimd"
        _check_state(self, core, "dst", limits.ON_CHIP if later else limits.SBUF)

    def compute(self, ops: Any, state: Any) -> Any:
        """Return the words, and the state as it was."""
        first = self.dst.start_partition
        return ops.asarray(state[first : first + self.dst.partitions]), state

    def cost(self, core: NeuronCore) -> Cost:
        """Return a stream of the words, assumed: no formula is published."""
        return _stream(core, self.engine_name, self.dst.free_size)


def _check_state(
    access: RandSetState | RandGetState, core: NeuronCore, name: str, buffers: limits.Buffers
) -> None:
    limits.check_engine(access, core)
    if access.engine_name == "vector":
        limits.check_since(access, core, 4)
    limits.check_tile(access, core, name, buffers)
    limits.check_dtype(access, name, ("uint32",))
    operand: AccessPattern = getattr(access, name)
    words = core.limits.generator_words(access.engine_name)
    limits.check_columns(access, name, operand.partitions, words)
