"""The forms that some versions of NKI have and others do not, as a table (`nki_api.md` §13)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any, TypeVar

from emuron.errors import UsageError
from emuron.nki.recorder import PACKAGE, active_recorder
from emuron.nki.source_places import warn_at_line
from emuron.nki.versions import VERSIONS, held_version, is_before, missing

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Form:
    """Something a kernel may write: the versions that take it, and what replaces it.

    `last` is the last version with it (None: the latest), `deprecated` the first that warns.
    """

    what: str
    first: str = "0.2"
    last: str | None = None
    instead: str = ""
    deprecated: str | None = None


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "affine_select offset third": Form(
            "affine_select with offset third", last="0.2", instead="it takes offset last; name it"
        ),
        "dma_compute scales third": Form(
            "dma_compute with scales third",
            last="0.2",
            instead="it takes reduce_op before scales since 0.3",
        ),
        "dma_copy dst_rmw_op": Form(
            "dst_rmw_op= of dma_copy",
            last="0.2",
            instead="add with nisa.dma_compute(dst, srcs=[dst, src], reduce_op=nl.add)",
        ),
        "dma_copy oob_mode third": Form(
            "dma_copy with oob_mode third",
            last="0.5",
            instead="priority stands third since 0.6; name oob_mode=",
        ),
        "dma_copy unique_indices": Form(
            "unique_indices= of dma_copy", last="0.2", instead="it has no effect since 0.3"
        ),
        "dma_transpose dge_mode fourth": Form(
            "dma_transpose with dge_mode fourth",
            last="0.5",
            instead="priority stands fourth since 0.6; name dge_mode=",
        ),
        "dma_transpose lower rank": Form(
            "a dst of dma_transpose with fewer dimensions than src",
            last="0.3",
            instead="give dst the permuted shape exactly, say by dst.reshape",
        ),
        "dynamic_range": Form(
            "nl.dynamic_range", deprecated="0.6", instead="use nl.fori_loop or nl.while_loop"
        ),
        "enum number": Form(
            "a number in place of a member of an enumeration of nki.isa",
            last="0.2",
            instead="name the member, such as nisa.engine.vector",
        ),
        "fori_loop": Form("nl.fori_loop and nl.while_loop", first="0.6"),
        "depends_on": Form("depends_on of an instruction", first="0.6"),
        "grids": Form("tile and block grids (nl.tiles, nl.blocks, nl.alloc_tiles)", first="0.7"),
        "hbm address": Form("address= of a tensor in HBM", first="0.7"),
        "hbm output": Form(
            "an output in private HBM", last="0.2", instead="allocate it in nl.shared_hbm"
        ),
        "indirect": Form("NkiTensor.indirect", first="0.5"),
        "keyword dtype": Form(
            "dtype= of an instruction", last="0.2", instead="dtype= has no effect; dst decides"
        ),
        "keyword imm": Form(
            "imm= of register_move", last="0.2", instead="it is called src= since 0.3"
        ),
        "keyword is_moving_zero": Form(
            "is_moving_zero= of nc_matmul",
            last="0.2",
            instead="it is called is_moving_onezero= since 0.3",
        ),
        "keyword psumAccumulateFlag": Form(
            "psumAccumulateFlag= of nc_matmul",
            last="0.2",
            instead="it is called accumulate= since 0.3",
        ),
        "maths": Form("a function of nki.language on tiles", first="0.3"),
        "num_programs None": Form(
            "nl.num_programs(axes=None)", last="0.2", instead="leave axes out"
        ),
        "psum_fmax": Form(
            "nl.tile_size.psum_fmax", deprecated="0.6", instead="it is called psum_bank_fmax"
        ),
        "register arithmetic": Form(
            "Python arithmetic with a register",
            deprecated="0.6",
            instead="compute with nisa.register_move and tiles; on the device its value is unknown",
        ),
        "register from tile": Form(
            "nisa.register_alloc(tensor)",
            last="0.2",
            instead="allocate, then nisa.register_load(register, tensor)",
        ),
        "sendrecv use_gpsimd_dma": Form(
            "use_gpsimd_dma= of sendrecv", last="0.2", instead="it is called dma_engine= since 0.3"
        ),
        "shared_constant dtype": Form(
            "dtype= of nl.shared_constant", last="0.2", instead="convert the array with astype"
        ),
        "string buffer": Form(
            "a memory given as a string", last="0.2", instead="name it, such as nl.sbuf"
        ),
        "tensor_copy_dynamic": Form(
            "tensor_copy_dynamic_src or tensor_copy_dynamic_dst",
            last="0.3",
            instead="nisa.tensor_copy takes views made by ap(scalar_offset=…)",
        ),
        "tensor truth": Form(
            "the truth value of a tensor",
            instead="only a simulator knows it while a kernel is written; the compiler refuses it",
            deprecated="0.2",
        ),
        "tensor_reduce last axis": Form(
            "tensor_reduce with axis=1 for the last of three or four dimensions",
            last="0.2",
            instead="give the axes themselves; it reduces the last ones",
        ),
        "total_available_sbuf_size": Form(
            "nl.tile_size.total_available_sbuf_size",
            deprecated="0.6",
            instead="it is called sbuf_fmax_bytes",
        ),
        "views": Form("the views of NkiTensor beyond indexing, reshape, view and ap", first="0.5"),
        "while register": Form(
            "while with a register", deprecated="0.6", instead="use nl.while_loop"
        ),
    }
)


def use(key: str) -> None:
    """Take a form of the table: warn once a launch if it is outdated, refuse it if so held.

    Raises UsageError if the kernel is held to a version that does not have it.
    """
    form = FORMS[key]
    active = active_recorder()
    version = held_version() if active is None else active.version
    if version is None:
        if form.last is not None:
            _tell(f"{form.what} is of NKI {form.last} and earlier: {form.instead}.")
        return
    if is_before(version, form.first):
        raise missing(version, form.what, form.first)
    if form.last is not None and is_before(form.last, version):
        since = VERSIONS[VERSIONS.index(form.last) + 1]
        raise UsageError(
            f"{form.what} does not exist since NKI {since}, and this kernel is held to NKI "
            f"{version}: {form.instead}."
        )
    if form.deprecated is not None and not is_before(version, form.deprecated):
        _tell(f"{form.what} is deprecated since NKI {form.deprecated}: {form.instead}.")


def _tell(message: str) -> None:
    """Warn at the kernel's own line, once a launch."""
    active = active_recorder()
    if active is not None:
        if message in active.told:
            return
        active.told.add(message)
    warn_at_line(message, DeprecationWarning)


def form_of(key: str) -> Callable[[F], F]:
    """Return a decorator that takes a form of the table at each call of a function by a kernel."""

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            active = active_recorder()
            if active is not None and active.version is not None:
                caller = sys._getframe(1).f_code.co_filename
                if not caller.startswith(PACKAGE):
                    use(key)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
