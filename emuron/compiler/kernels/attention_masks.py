"""What hides keys from queries: masks, last positions and windows, as numbers added to scores."""

from __future__ import annotations

from dataclasses import dataclass, field

from emuron.compiler.kernels.attention_rules import KEPT_KEYS, most_places
from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.view import LogicalView
from emuron.isa.affine import Affine, Index
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32


@dataclass(slots=True, eq=False)
class Masks:
    """The operands that hide keys, and the tiles made of them that several heads share."""

    k: KernelContext
    mask: Placed | None
    positions: Placed | None
    window: int
    hidden_score: float
    queries: int
    keys: int
    kept: dict[tuple[object, ...], NkiTensor] = field(default_factory=dict)

    @property
    def bounded(self) -> bool:
        """Whether a row may see no key at all."""
        return self.mask is not None or self.positions is not None

    def hidden(self, batch: int, head: Index, rows: Rows, span: slice) -> NkiTensor | None:
        """Return [rows, keys] to add to the scores: a float mask, or 0 and the hidden score.

        A score plus the hidden score is the hidden score, whatever the score: it is that large.
        """
        mask = self.mask
        heads_differ = mask is not None and mask.shape[1] > 1
        rows_differ = self.positions is not None or (mask is not None and mask.shape[2] > 1)
        shared = (batch, head if heads_differ else 0, rows[0] if rows_differ else 0, rows[1])
        key = (*shared, span.start, span.stop)
        if key in self.kept:
            return self.kept[key]
        tile = self._mask_tile(batch, head, rows, span)
        last = self._limits(batch, rows)
        hidden = self._hide(None, tile) if tile is not None else None
        if last is not None:
            hidden = self._hide(hidden, self._seen(last, span))
        if hidden is not None and not isinstance(rows[0], Affine) and self._keeps(rows_differ):
            self.kept[key] = hidden
        return hidden

    def _seen(self, last: NkiTensor, span: slice) -> NkiTensor:
        """Return 1 where a key is not beyond the last one seen, nor before the window, else 0."""
        k, rows, window = self.k, last.shape[0], self.window
        places = k.places(most_places(self.keys))[:rows, : span.stop - span.start]
        if span.start:  # places count from the first key of the span
            shifted, last = last, k.sbuf((rows, 1), float32, "last")
            nisa.tensor_scalar(last, shifted, "subtract", float(span.start))
        seen = k.sbuf(places.shape, float32, "seen")
        nisa.tensor_scalar(seen, places, "less_equal", last)
        if not window:
            return seen
        first, both = k.sbuf((rows, 1), float32), k.sbuf(places.shape, float32, "seen")
        nisa.tensor_scalar(first, last, "subtract", float(window - 1))
        nisa.scalar_tensor_tensor(both, places, "greater_equal", first, "multiply", seen)
        return both

    def _keeps(self, rows_differ: bool) -> bool:
        """Tell whether mask tiles are kept for the next head: the few that all rows share."""
        return self.keys <= KEPT_KEYS and (not rows_differ or self.queries <= 128)

    def _hide(self, before: NkiTensor | None, seen: NkiTensor) -> NkiTensor:
        """Return `before` plus 0 where `seen` is one and the hidden score where it is zero."""
        if before is None and seen.dtype.kind == "float" and self.mask is not None:
            return seen  # a float mask is added as it is
        made = self.k.sbuf(seen.shape, float32, "hidden")
        score = -self.hidden_score
        nisa.tensor_scalar(made, seen, "subtract", 1.0, False, "multiply", score)
        if before is not None:
            both = self.k.sbuf(seen.shape, float32, "hidden")
            nisa.tensor_tensor(both, before, made, "minimum")
            return both
        return made

    def _limits(self, batch: int, rows: Rows) -> NkiTensor | None:
        """Return [rows, 1], the last key that each query row sees."""
        positions, queries = self.positions, self.queries
        if positions is None:
            return None
        view = positions.view.slice(0, batch, 1)
        assert view is not None
        if positions.shape[1] == 1 and queries > 1:
            view = view.broadcast((1, queries), (0, 1))
        column = positions.seen_as(LogicalView((view.dims[1], ((1, 1),)), view.offset))
        tile = self.k.read(column, rows, (0, 1), "last")
        if tile.dtype == float32:
            return tile
        made = self.k.sbuf(tile.shape, float32)
        nisa.tensor_copy(made, tile, engine="vector")
        return made

    def _mask_tile(self, batch: int, head: Index, rows: Rows, span: slice) -> NkiTensor | None:
        """Return [rows, keys] of the mask, one row repeated where it has only one."""
        mask = self.mask
        if mask is None:
            return None
        view = mask.view.slice(0, batch if mask.shape[0] > 1 else 0, 1)
        view = view.slice(1, head if mask.shape[1] > 1 else 0, 1) if view is not None else None
        assert view is not None
        one = mask.seen_as(LogicalView(view.dims[2:], view.offset))
        columns = span.start, span.stop - span.start
        if mask.shape[2] == 1:
            return self.k.spread(self.k.spill(one), rows[1], columns)
        return self.k.read(one, rows, columns, "mask")
