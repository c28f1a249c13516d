"""Calls of nki functions with arguments that they cannot take: errors that say what they take."""

from __future__ import annotations

import inspect
import re
from types import TracebackType
from typing import Any

from emuron.errors import WrongCallError
from emuron.nki import isa, language
from emuron.nki.recorder import PACKAGE

_MISMATCH = re.compile(r"(\w+)\(\) (?:got|missing|takes|takes from) ")


def wrong_call(error: TypeError) -> WrongCallError | None:
    """Return what a TypeError raised in a kernel says of its call; None if it is none of ours.

    Either Python found that the arguments do not fit a function's signature, or the function
    could not use a value.
    """
    matched = _MISMATCH.match(str(error))
    called = _called(error.__traceback__)
    if called is not None:
        problem = f"{called} cannot use a value that it was given ({error})"
    elif matched is not None and _function(matched[1]) is not None:
        called, problem = matched[1], str(error)
    else:
        return None
    taken = ""
    function = _function(called)
    if function is not None:
        names = inspect.signature(function).parameters.values()
        shown = [str(p.name) for p in names if p.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = f" It takes {called}({', '.join(shown)})."
    return WrongCallError(f"{problem}.{taken}")


def _called(traceback: TracebackType | None) -> str | None:
    """Return the function of this package that the kernel called where the error arose."""
    called = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        inside = code.co_filename.startswith(PACKAGE)
        called = (called or code.co_name) if inside else None
        traceback = traceback.tb_next
    return called


def _function(name: str) -> Any:
    """Return the function that kernels know by a name, of nki.isa or nki.language; None if none."""
    for module in (isa, language):
        found = vars(module).get(name)
        if inspect.isfunction(found):
            return found
    return None
