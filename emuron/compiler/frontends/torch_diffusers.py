"""Networks of the diffusers library, made from configs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emuron.errors import UnknownNameError, missing_extra

try:
    import diffusers
except ImportError as error:
    raise missing_extra(error, "Building a network of diffusers") or error from error


def build(name: str, fields: Mapping[str, Any]) -> Any:
    """Return the network of a class from the fields of its config.json."""
    found = getattr(diffusers, name, None)
    if found is None:
        raise UnknownNameError("class of diffusers", name, ())
    return found.from_config(dict(fields))
