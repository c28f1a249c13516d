"""Tile and block grids: a tensor seen as tiles, or as blocks of tiles (`nki_api.md` §4.7, NKI 0.7).

A grid is a view. Indexing selects tiles (or blocks) and gives a grid of the same type, clamped
where the tensor ends within a tile; `data` is the selection as an operand of instructions.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, TypeVar

from emuron.errors import OutOfBoundsError, UsageError
from emuron.isa.tensor import MemoryRegion
from emuron.nki.creation import Buffer, allocate, region
from emuron.nki.earlier_forms import use
from emuron.nki.recorder import recorder
from emuron.nki.shapes import completed
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType

Ints = tuple[int, ...]
G = TypeVar("G", bound="NkiGrid")


class NkiGrid:
    """A selection of elements cut into tiles, `index_step_elements` a step of an index.

    In HBM, and for tensors that exist, `data` is a plain slice. Grids allocated on chip lay the
    tile rows of dimension 0 one behind the other in the partitions of the first: their `data` is a
    slice of one tile row, or [partition, tile row, …] of several whole ones.
    """

    def __init__(
        self,
        base: NkiTensor,
        start: Ints,
        stop: Ints,
        tile_shape: Ints,
        block_shape: Ints,
        rows_apart: bool,
    ) -> None:
        self._base = base
        self._start = start
        self._stop = stop
        self._rows_apart = rows_apart  # dimension 0 lies in dimensions 0 and 1 of the base
        self.tile_shape = tile_shape
        self.block_shape = block_shape

    @property
    def index_step_elements(self) -> Ints:
        """Elements that one step of an index goes on, in each dimension."""
        return tuple(t * b for t, b in zip(self.tile_shape, self.block_shape, strict=True))

    @property
    def element_shape(self) -> Ints:
        """Elements selected in each dimension, exactly."""
        return tuple(b - a for a, b in zip(self._start, self._stop, strict=True))

    @property
    def shape(self) -> Ints:
        """Tiles (or blocks) in each dimension, the last of which may be partial."""
        pairs = zip(self.element_shape, self.index_step_elements, strict=True)
        return tuple(-(-elements // step) for elements, step in pairs)

    @property
    def is_remainder(self) -> bool:
        """Whether the selection ends within a tile (or block)."""
        pairs = zip(self.element_shape, self.index_step_elements, strict=True)
        return any(elements % step for elements, step in pairs)

    @property
    def dtype(self) -> DType:
        """The dtype of the elements."""
        return self._base.dtype

    @property
    def buffer(self) -> MemoryRegion:
        """The memory of the elements."""
        return self._base.buffer

    @property
    def is_data_representable(self) -> bool:
        """Whether the selection is one strided view."""
        rows, tile = self.element_shape[0], self.tile_shape[0]
        return not self._rows_apart or rows <= tile or rows % tile == 0

    @property
    def data(self) -> NkiTensor:
        """The selection as a tensor; raise UsageError if it is no single view."""
        rest = [slice(a, b) for a, b in zip(self._start[1:], self._stop[1:], strict=True)]
        first, last = self._start[0], self._stop[0]
        if not self._rows_apart:
            return self._base[(slice(first, last), *rest)]
        if not self.is_data_representable:
            raise UsageError(
                f"data: the {list(self.element_shape)} elements selected of {self._base.name} are "
                f"no single view: their {last - first} rows end within a tile of "
                f"{self.tile_shape[0]}. Index the whole tiles and the rest apart."
            )
        tile = self.tile_shape[0]
        row = first // tile
        if last - first <= tile:
            return self._base[(slice(0, last - first), row, *rest)]
        return self._base[(slice(0, tile), slice(row, last // tile), *rest)]

    def __getitem__(self: G, key: Any) -> G:
        keys = completed(key if isinstance(key, tuple) else (key,), len(self.shape), "a grid")
        start, stop = list(self._start), list(self._stop)
        for axis, (item, step) in enumerate(zip(keys, self.index_step_elements, strict=True)):
            first, last = self._span(axis, item)
            start[axis] = self._start[axis] + first * step
            stop[axis] = min(self._start[axis] + last * step, self._stop[axis])
        return self._selected(tuple(start), tuple(stop))

    def _span(self, axis: int, item: Any) -> tuple[int, int]:
        """Return the tiles (or blocks) from … to that one index selects in a dimension."""
        size = self.shape[axis]
        if isinstance(item, slice):
            first, last, step = item.indices(size)
            within = step == 1 and first < last and (item.stop is None or item.stop <= size)
        else:
            first = operator.index(item)
            first += size if first < 0 else 0
            last, within = first + 1, 0 <= first < size
        if not within:
            raise OutOfBoundsError(
                f"Index {item!r} is outside dimension {axis} of a grid of {list(self.shape)} "
                f"{'tiles' if isinstance(self, NkiTileGrid) else 'blocks'}, or steps, or is empty."
            )
        return first, last

    def _selected(self: G, start: Ints, stop: Ints) -> G:
        made = (self._base, start, stop, self.tile_shape, self.block_shape, self._rows_apart)
        return type(self)(*made)

    def __iter__(self: G) -> Iterator[G]:
        return (self[i] for i in range(self.shape[0]))

    def __len__(self) -> int:
        return self.shape[0]


class NkiTileGrid(NkiGrid):
    """A tensor as a grid of tiles."""


class NkiBlockGrid(NkiGrid):
    """A tensor as a grid of blocks, each of `block_shape` tiles."""


def _exact(name: str, given: Any, rank: int | None = None) -> Ints:
    """Return a tuple of positive ints; raise TypeError for others, ValueError for wrong ones."""
    if not isinstance(given, tuple) or any(type(count) is not int for count in given):
        raise TypeError(f"{name} must be a tuple of ints, not {given!r}")
    if not given or any(count < 1 for count in given):
        raise ValueError(f"{name}={given!r}: sizes are at least 1")
    if rank is not None and len(given) != rank:
        raise ValueError(f"{name}={given!r} has {len(given)} dimensions, not {rank}")
    return given


def _parts(source: NkiTensor | NkiGrid, tile_shape: Ints | None) -> tuple[Any, ...]:
    """Return base, start, stop, tile shape and row layout of a grid over a tensor or a grid."""
    if isinstance(source, NkiGrid):
        if source._rows_apart and tile_shape is not None and tile_shape[0] != source.tile_shape[0]:
            raise ValueError(
                f"tile_shape={tile_shape!r}: the tiles of a grid on chip keep their "
                f"{source.tile_shape[0]} rows"
            )
        shape = source.tile_shape if tile_shape is None else tile_shape
        return source._base, source._start, source._stop, shape, source._rows_apart
    if tile_shape is None:
        tile_shape = (min(recorder().core.partitions, source.shape[0]), *source.shape[1:])
    return source, (0,) * source.ndim, source.shape, tile_shape, False


def _rank(source: NkiTensor | NkiGrid) -> int:
    return len(source.element_shape) if isinstance(source, NkiGrid) else source.ndim


def tiles(source: NkiTensor | NkiGrid, *, tile_shape: Ints | None = None) -> NkiTileGrid:
    """Return a tensor, or the selection of a grid, as tiles.

    `tile_shape` defaults to the grid's, for a tensor to as many rows as there are partitions.
    """
    use("grids")
    shape = None if tile_shape is None else _exact("tile_shape", tile_shape, _rank(source))
    base, start, stop, shape, apart = _parts(source, shape)
    return NkiTileGrid(base, start, stop, shape, (1,) * len(shape), apart)


def blocks(
    source: NkiTensor | NkiGrid, *, tile_shape: Ints | None = None, block_shape: Ints
) -> NkiBlockGrid:
    """Return a tensor, or the selection of a grid, as blocks of `block_shape` tiles."""
    use("grids")
    shape = None if tile_shape is None else _exact("tile_shape", tile_shape, _rank(source))
    base, start, stop, shape, apart = _parts(source, shape)
    return NkiBlockGrid(
        base, start, stop, shape, _exact("block_shape", block_shape, len(shape)), apart
    )


def alloc_tiles(
    *,
    tile_shape: Ints,
    element_shape: Ints,
    buffer: Buffer,
    dtype: object,
    address: Any = None,
    name: str = "",
) -> NkiTileGrid:
    """Return a new tensor of `element_shape` as tiles; on chip it may have more rows than a tile.

    A tile row takes all the free dimensions in the partitions of the tile.
    """
    use("grids")
    elements = _exact("element_shape", element_shape)
    tile = _exact("tile_shape", tile_shape, len(elements))
    ones = (1,) * len(tile)
    start = (0,) * len(tile)
    if not region(buffer).is_on_chip:
        base = allocate(elements, dtype, buffer, name, address)
        return NkiTileGrid(base, start, elements, tile, ones, rows_apart=False)
    rows = -(-elements[0] // tile[0])
    height = min(tile[0], elements[0])
    base = allocate((height, rows, *elements[1:]), dtype, buffer, name, address)
    return NkiTileGrid(base, start, elements, tile, ones, rows_apart=True)


def alloc_blocks(
    *,
    tile_shape: Ints,
    block_shape: Ints,
    element_shape: Ints,
    buffer: Buffer,
    dtype: object,
    address: Any = None,
    name: str = "",
) -> NkiBlockGrid:
    """Return a new tensor of `element_shape` as blocks of tiles, laid out as by `alloc_tiles`."""
    made = alloc_tiles(
        tile_shape=tile_shape,
        element_shape=element_shape,
        buffer=buffer,
        dtype=dtype,
        address=address,
        name=name,
    )
    return blocks(made, block_shape=block_shape)
