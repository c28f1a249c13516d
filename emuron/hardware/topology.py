"""How the chips of an instance are linked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from emuron.errors import UsageError

KINDS = ("single", "chain", "ring", "torus2d_4x4", "torus3d_4x4x4", "switched")


@dataclass(frozen=True, slots=True)
class Topology:
    """Chips 0 to `chips` - 1 and their links.

    `kind` is one of KINDS. Chips are numbered row by row (chip = 4 * row + column in a 4x4 torus,
    16 * instance + that in a 4x4x4 one); in a switched topology server by server.
    """

    kind: str
    chips: int
    chips_per_server: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"topology {self.kind!r} is not one of {', '.join(KINDS)}")
        if prod(self.dims) != self.chips:
            raise UsageError(f"topology {self.kind} does not have {self.chips} chips")
        if self.chips_per_server < 1 or self.chips % self.chips_per_server:
            raise UsageError(
                f"{self.chips} chips do not divide into servers of {self.chips_per_server}"
            )

    @property
    def dims(self) -> tuple[int, ...]:
        """Extent of each axis, slowest first."""
        if self.kind == "single":
            return (1,)
        if self.kind.startswith("torus"):
            return tuple(int(extent) for extent in self.kind.split("_")[1].split("x"))
        return (self.chips,)

    @property
    def wraps(self) -> bool:
        """Whether the ends of each axis are linked."""
        return self.kind == "ring" or self.kind.startswith("torus")

    def coordinates(self, chip: int) -> tuple[int, ...]:
        """Return the position of `chip` on each axis."""
        if not 0 <= chip < self.chips:
            raise UsageError(
                f"chip {chip} is not one of the {self.chips} chips 0 to {self.chips - 1}"
            )
        position = []
        for extent in reversed(self.dims):
            chip, place = divmod(chip, extent)
            position.append(place)
        return tuple(reversed(position))

    def neighbours(self, chip: int) -> tuple[int, ...]:
        """Return the chips linked to `chip`, ascending; every other one behind switches."""
        position = self.coordinates(chip)
        if self.kind == "switched":
            return tuple(other for other in range(self.chips) if other != chip)
        return tuple(sorted(set(self._steps(chip, position))))

    def hops(self, start: int, end: int) -> int:
        """Return the links on the shortest way between two chips; 1 through any switch."""
        if self.kind == "switched":
            return int(self.coordinates(start) != self.coordinates(end))
        total = 0
        places = zip(self.coordinates(start), self.coordinates(end), self.dims, strict=True)
        for here, there, extent in places:
            apart = abs(here - there)
            total += min(apart, extent - apart) if self.wraps else apart
        return total

    def gathering_steps(self, chips: int) -> int:
        """Return the steps in which what each of the first `chips` has comes to all of them.

        Along one axis after the other, each from chip to chip; 1 through switches.
        """
        self.coordinates(chips - 1)
        if self.kind == "switched":
            return int(chips > 1)
        steps, inner = 0, self.chips
        for extent in self.dims:
            inner //= extent
            steps += min(extent, -(-chips // inner)) - 1
        return steps

    def server(self, chip: int) -> int:
        """Return the server (instance of an UltraServer) that `chip` is in."""
        self.coordinates(chip)
        return chip // self.chips_per_server

    def _steps(self, chip: int, position: tuple[int, ...]) -> Iterator[int]:
        stride = 1
        for place, extent in zip(reversed(position), reversed(self.dims), strict=True):
            for step in (-1, 1):
                there = place + step
                if self.wraps:
                    there %= extent
                if 0 <= there < extent and there != place:
                    yield chip + (there - place) * stride
            stride *= extent
