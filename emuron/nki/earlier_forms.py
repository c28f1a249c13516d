"""Arguments of earlier NKI versions, turned into those of 0.6 with a DeprecationWarning.

The differences: `nki_api.md` §13 (signature history).
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from emuron.errors import UsageError
from emuron.isa.tensor import AccessPattern
from emuron.nki.enums import dma_engine, oob_mode

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _warn(message: str) -> None:
    warnings.warn(message, DeprecationWarning, stacklevel=4)


def _dropped(keywords: dict[str, Any], old: str) -> None:
    if old in keywords:
        _warn(f"{old}= has no effect since NKI 0.3")
        del keywords[old]


def _dma_copy(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2 and 0.3: (dst, src, oob_mode, dge_mode), dst_rmw_op, unique_indices."""
    _dropped(keywords, "unique_indices")
    if keywords.get("dst_rmw_op") is not None:
        raise UsageError(
            "dma_copy: dst_rmw_op does not exist since NKI 0.3. Add with "
            "nisa.dma_compute(dst, srcs=[dst, src], reduce_op=nl.add)."
        )
    keywords.pop("dst_rmw_op", None)
    if len(given) > 2 and isinstance(given[2], oob_mode):
        _warn("dma_copy takes priority in the third place since NKI 0.6; name oob_mode=")
        given = (*given[:2], None, *given[2:])
    return given, keywords


def _dma_transpose(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2 to 0.5: (dst, src, axes, dge_mode)."""
    if len(given) > 3 and isinstance(given[3], str):
        _warn("dma_transpose takes priority in the fourth place since NKI 0.6; name dge_mode=")
        given = (*given[:3], None, *given[3:])
    return given, keywords


def _dma_compute(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """NKI's list `srcs` becomes src0 …; 0.2: (dst, srcs, scales, reduce_op)."""
    names = ("dst", "srcs", "reduce_op", "scales", "unique_indices", "oob_mode", "name")
    if len(given) > 2 and isinstance(given[2], list | tuple):
        _warn("dma_compute takes reduce_op before scales since NKI 0.3")
        names = ("dst", "srcs", "scales", "reduce_op", *names[4:])
    keywords = {**dict(zip(names, given, strict=False)), **keywords}
    sources = list(keywords.pop("srcs", ()))
    if not sources:
        raise UsageError("dma_compute: srcs is empty; give at least one source.")
    keywords.update({f"src{number}": source for number, source in enumerate(sources)})
    return (), keywords


def _affine_select(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2: (dst, pattern, offset, channel_multiplier, on_true_tile, on_false_value, cmp_op)."""
    if len(given) > 4 and isinstance(given[4], AccessPattern):
        _warn("affine_select takes offset last since NKI 0.3; name it")
        keywords = {**keywords, "offset": given[2]}
        given = (*given[:2], *given[3:])
    return given, keywords


def _sendrecv(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2: use_gpsimd_dma, a bool."""
    if "use_gpsimd_dma" in keywords:
        _warn("use_gpsimd_dma= is called dma_engine= since NKI 0.3")
        moves = keywords.pop("use_gpsimd_dma")
        keywords["dma_engine"] = dma_engine.gpsimd_dma if moves else dma_engine.dma
    return given, keywords


ADAPTED: Mapping[str, Callable[[tuple[Any, ...], dict[str, Any]], Arguments]] = MappingProxyType(
    {
        "affine_select": _affine_select,
        "dma_compute": _dma_compute,
        "dma_copy": _dma_copy,
        "dma_transpose": _dma_transpose,
        "sendrecv": _sendrecv,
    }
)
"""The instructions whose order of arguments changed, and what brings it into today's."""


_KEYWORDS: Mapping[str, Mapping[str, str | None]] = MappingProxyType(
    {
        "nc_matmul": {"is_moving_zero": "is_moving_onezero", "psumAccumulateFlag": "accumulate"},
        "register_move": {"imm": "src"},
        "scalar_tensor_tensor": {"dtype": None},
    }
)
"""Keywords of earlier versions and what they are called now; None where they had no effect."""


def earlier_keywords(
    mnemonic: str,
) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] | None:
    """Return what renames the earlier keywords of an instruction; None if it never had others."""
    table = _KEYWORDS.get(mnemonic)
    if table is None:
        return None

    def now(arguments: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
        for old, value in earlier.items():
            if old not in table:
                raise TypeError(f"{mnemonic}() got an unexpected keyword argument {old!r}")
            new = table[old]
            if new is None:
                _dropped({old: value}, old)
            else:
                _warn(f"{old}= is called {new}= since NKI 0.3")
                arguments[new] = value
        return arguments

    return now


def accept_earlier(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, called again with adapted arguments where they are of another version."""
    adapt = ADAPTED[function.__name__]
    known = frozenset(inspect.signature(function).parameters)
    plain = {"dma_copy": 2, "dma_transpose": 3, "affine_select": 4, "dma_compute": 0}
    most = plain.get(function.__name__, len(known))

    @functools.wraps(function)
    def call(*given: Any, **keywords: Any) -> Any:
        if len(given) > most or not known.issuperset(keywords):
            given, keywords = adapt(given, keywords)
        return function(*given, **keywords)

    return call
