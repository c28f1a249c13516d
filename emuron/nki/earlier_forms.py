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
from emuron.nki.enums import oob_mode

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _warn(message: str) -> None:
    warnings.warn(message, DeprecationWarning, stacklevel=4)


def _renamed(keywords: dict[str, Any], old: str, new: str) -> None:
    if old in keywords:
        _warn(f"{old}= is called {new}= since NKI 0.3")
        keywords[new] = keywords.pop(old)


def _dropped(keywords: dict[str, Any], old: str) -> None:
    if old in keywords:
        _warn(f"{old}= has no effect since NKI 0.3")
        del keywords[old]


def _nc_matmul(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    _renamed(keywords, "is_moving_zero", "is_moving_onezero")
    _renamed(keywords, "psumAccumulateFlag", "accumulate")
    return given, keywords


def _scalar_tensor_tensor(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    _dropped(keywords, "dtype")
    return given, keywords


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


def _register_move(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    _renamed(keywords, "imm", "src")
    return given, keywords


def _sendrecv(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    if "use_gpsimd_dma" in keywords:
        _warn("use_gpsimd_dma= is dma_engine= since NKI 0.3")
        keywords["dma_engine"] = "gpsimd_dma" if keywords.pop("use_gpsimd_dma") else "dma"
    return given, keywords


ADAPTED: Mapping[str, Callable[[tuple[Any, ...], dict[str, Any]], Arguments]] = MappingProxyType(
    {
        "affine_select": _affine_select,
        "dma_compute": _dma_compute,
        "dma_copy": _dma_copy,
        "dma_transpose": _dma_transpose,
        "nc_matmul": _nc_matmul,
        "register_move": _register_move,
        "scalar_tensor_tensor": _scalar_tensor_tensor,
        "sendrecv": _sendrecv,
    }
)
"""The instructions whose arguments changed, and what turns the earlier ones into today's."""


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
