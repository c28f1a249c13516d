"""Modules of the transformers library, made from configs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emuron.errors import UnknownNameError, missing_extra

try:
    import transformers
except ImportError as error:
    raise missing_extra(error, "Building a model of transformers") or error from error


def build(name: str, fields: Mapping[str, Any]) -> Any:
    """Return the module of a class made from the fields of its config.json."""
    found = getattr(transformers, name, None)
    if found is None:
        raise UnknownNameError("class of transformers", name, ())
    return found(found.config_class(**_plain(fields)))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in fields.items()}
