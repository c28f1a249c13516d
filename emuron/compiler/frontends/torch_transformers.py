"""Modules of the transformers library, made from configs alone or read from folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emuron.errors import ModelFileError, UnknownNameError, missing_extra

try:
    import transformers
except ImportError as error:
    raise missing_extra(error, "Building a model of transformers") or error from error

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
    """Return the module of a class made from the fields of its config.json."""
    found = _class(name)
    plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in fields.items()}
    try:
        return found(found.config_class(**plain))
    except FOREIGN_ERRORS as error:
        raise ModelFileError(f"transformers cannot make {name} from its config: {error}") from error


def load(name: str, folder: Path) -> Any:
    """Return the module of a class with a folder's weights, from safetensors alone."""
    try:
        return _class(name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except FOREIGN_ERRORS as error:
        first = str(error).partition("\n")[0]
        raise ModelFileError(f"{folder}: transformers cannot read it as {name}: {first}") from error


def all_fields(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a class's config, those left out with the library's defaults."""
    try:
        found: dict[str, Any] = _class(name).config_class(**fields).to_dict()
    except FOREIGN_ERRORS as error:
        raise ModelFileError(f"transformers does not take the config of {name}: {error}") from error
    return found


def main_input(name: str) -> str:
    """Return the name of the input that a class is mainly called with."""
    return str(_class(name).main_input_name)


def _class(name: str) -> Any:
    found = getattr(transformers, name, None)
    if not isinstance(found, type) or not hasattr(found, "config_class"):
        raise UnknownNameError("model class of transformers", name, ())
    return found
