"""Networks of the diffusers library, made from configs alone or read from folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emuron.errors import ModelFileError, UnknownNameError, missing_extra

try:
    import diffusers
except ImportError as error:
    raise missing_extra(error, "Building a network of diffusers") or error from error

FOREIGN_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the library raises for a config or for weights that do not belong together."""


def build(name: str, fields: Mapping[str, Any]) -> Any:
    """Return the network of a class from the fields of its config.json."""
    try:
        return _class(name).from_config(dict(fields))
    except FOREIGN_ERRORS as error:
        raise ModelFileError(f"diffusers cannot make {name} from its config: {error}") from error


def load(name: str, folder: Path) -> Any:
    """Return the network of a class with a folder's weights, from safetensors alone."""
    try:
        return _class(name).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except FOREIGN_ERRORS as error:
        first = str(error).partition("\n")[0]
        raise ModelFileError(f"{folder}: diffusers cannot read it as {name}: {first}") from error


def _class(name: str) -> Any:
    found = getattr(diffusers, name, None)
    if not isinstance(found, type) or not hasattr(found, "from_config"):
        raise UnknownNameError("network of diffusers", name, ())
    return found
