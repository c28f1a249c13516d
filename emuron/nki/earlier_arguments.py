"""Arguments of earlier NKI versions, turned into those of 0.6 (`earlier_forms` has the table)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from emuron.errors import HardwareLimitError, UsageError
from emuron.isa.dma import DEFAULT_AXES, DmaCompute
from emuron.isa.tensor import AccessPattern
from emuron.nki.earlier_forms import use
from emuron.nki.enums import dma_engine, oob_mode
from emuron.nki.versions import behaves_before

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _dma_copy(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments | None:
    """0.2 and 0.3: (dst, src, oob_mode, dge_mode), dst_rmw_op, unique_indices."""
    if keywords.pop("dst_rmw_op", None) is not None:
        use("dma_copy dst_rmw_op")
        _add({**dict(zip(("dst", "src"), given, strict=False)), **keywords})
        return None
    if keywords.pop("unique_indices", None) is not None:
        use("dma_copy unique_indices")
    if len(given) > 2 and isinstance(given[2], oob_mode):
        use("dma_copy oob_mode third")
        given = (*given[:2], None, *given[2:])
    return given, keywords


def _add(given: dict[str, Any]) -> None:
    """Issue dst += src, for which there is an instruction of its own since 0.3."""
    kept = {name: given[name] for name in ("unique_indices", "oob_mode", "name") if name in given}
    isa = import_module("emuron.nki.isa")
    isa.dma_compute(given["dst"], [given["dst"], given["src"]], "add", **kept)


def _dma_transpose(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2 to 0.5: (dst, src, axes, dge_mode), and a dst of fewer dimensions than src."""
    if len(given) > 3 and isinstance(given[3], str):
        use("dma_transpose dge_mode fourth")
        given = (*given[:3], None, *given[3:])
    named = dict(zip(("dst", "src"), given, strict=False))
    dst, src = named.get("dst", keywords.get("dst")), named.get("src", keywords.get("src"))
    if isinstance(dst, AccessPattern) and isinstance(src, AccessPattern):
        axes = DEFAULT_AXES.get(len(src.shape), ())
        if len(dst.shape) < len(src.shape) and dst.size == src.size:
            use("dma_transpose lower rank")
            padded = dst.reshape([src.shape[axis] for axis in axes])  # type: ignore[attr-defined]
            if "dst" in named:
                given = (padded, *given[1:])
            else:
                keywords = {**keywords, "dst": padded}
    return given, keywords


def _dma_compute(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """NKI's list `srcs` becomes src0 …; 0.2: (dst, srcs, scales, reduce_op)."""
    names = ("dst", "srcs", "reduce_op", "scales", "unique_indices", "oob_mode", "name")
    if len(given) > 2 and isinstance(given[2], list | tuple):
        use("dma_compute scales third")
        names = ("dst", "srcs", "scales", "reduce_op", *names[4:])
    keywords = {**dict(zip(names, given, strict=False)), **keywords}
    sources = list(keywords.pop("srcs", ()))
    if not sources:
        raise UsageError("dma_compute: srcs is empty; give at least one source.")
    most = sum(name.startswith("src") for name, _ in DmaCompute.operands)
    if len(sources) > most:
        raise HardwareLimitError(
            f"dma_compute: srcs has {len(sources)} tensors; the limit is {most}. Add them in "
            "several steps."
        )
    keywords.update({f"src{number}": source for number, source in enumerate(sources)})
    return (), keywords


def _affine_select(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2: (dst, pattern, offset, channel_multiplier, on_true_tile, on_false_value, cmp_op)."""
    if len(given) > 4 and isinstance(given[4], AccessPattern):
        use("affine_select offset third")
        keywords = {**keywords, "offset": given[2]}
        given = (*given[:2], *given[3:])
    return given, keywords


def _quantize_mx(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """Before 0.5 scales were those of the OCP example, before 0.6 the rows between them zeros."""
    ocp_scale, clears_rows = behaves_before("0.5"), behaves_before("0.6")
    return given, {"ocp_scale": ocp_scale, "clears_rows": clears_rows, **keywords}


def _sendrecv(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2: use_gpsimd_dma, a bool."""
    if "use_gpsimd_dma" in keywords:
        use("sendrecv use_gpsimd_dma")
        moves = keywords.pop("use_gpsimd_dma")
        keywords["dma_engine"] = dma_engine.gpsimd_dma if moves else dma_engine.dma
    return given, keywords


def _tensor_reduce(given: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
    """0.2: axis=1 meant the last of three or four dimensions."""
    axis = given[3] if len(given) > 3 else keywords.get("axis")
    data = given[2] if len(given) > 2 else keywords.get("data")
    if axis == 1 and isinstance(data, AccessPattern) and len(data.shape) > 2:
        use("tensor_reduce last axis")
        return given[:3], {**keywords, "axis": len(data.shape) - 1}
    return given, keywords


Adapt = Callable[[tuple[Any, ...], dict[str, Any]], Arguments | None]

ADAPTED: Mapping[str, Adapt] = MappingProxyType(
    {
        "affine_select": _affine_select,
        "dma_compute": _dma_compute,
        "dma_copy": _dma_copy,
        "dma_transpose": _dma_transpose,
        "quantize_mx": _quantize_mx,
        "sendrecv": _sendrecv,
        "tensor_reduce": _tensor_reduce,
    }
)
"""The instructions whose arguments changed, and what brings them into today's; None: it is done."""


_KEYWORDS: Mapping[str, Mapping[str, str | None]] = MappingProxyType(
    {
        "nc_matmul": {"is_moving_zero": "is_moving_onezero", "psumAccumulateFlag": "accumulate"},
        "scalar_tensor_tensor": {"dtype": None},
        "tensor_copy": {"dtype": None},
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
            use(f"keyword {old}")
            if new is not None:
                arguments[new] = value
        return arguments

    return now


RENAMED: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("tensor_copy_dynamic_src", "tensor_copy_dynamic_dst"), "tensor_copy")
)
"""Instructions of earlier versions, and the one that does the same now."""


def renamed(earlier: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` under the name of an instruction that it has replaced."""

    @functools.wraps(function)
    def call(*given: Any, **keywords: Any) -> Any:
        use("tensor_copy_dynamic")
        return function(*given, **keywords)

    call.__name__ = earlier
    return call


def accept_earlier(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, called again with adapted arguments where they are of another version."""
    adapt = ADAPTED[function.__name__]
    known = frozenset(inspect.signature(function).parameters)
    plain = {"dma_copy": 2, "affine_select": 4, "dma_compute": 0}
    always = ("dma_transpose", "quantize_mx", "tensor_reduce")  # also where names are today's
    plain |= dict.fromkeys(always, -1)
    most = plain.get(function.__name__, len(known))

    @functools.wraps(function)
    def call(*given: Any, **keywords: Any) -> Any:
        if len(given) > most or not known.issuperset(keywords):
            adapted = adapt(given, keywords)
            if adapted is None:
                return None
            given, keywords = adapted
        return function(*given, **keywords)

    return call
