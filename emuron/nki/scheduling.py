"""What a kernel says about the order of its instructions (`nki_api.md` §12)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from emuron.errors import UsageError

_ordered: ContextVar[bool] = ContextVar("ordered", default=False)


@contextmanager
def no_reorder() -> Iterator[None]:
    """Keep program order inside, which holds on each engine everywhere.

    Dynamic loops are refused inside, as by the compiler.
    """
    token = _ordered.set(True)
    try:
        yield
    finally:
        _ordered.reset(token)


def refuse_ordered(what: str) -> None:
    """Raise UsageError inside of `no_reorder`."""
    if _ordered.get():
        raise UsageError(
            f"{what} inside of nl.no_reorder() is not supported. Put no_reorder into the loop's "
            "body instead."
        )
