"""Models by name: the public configs of the native families, with random weights or none."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from emuron.compiler.frontends import hf
from emuron.compiler.frontends.hf import HFModel
from emuron.errors import ModelFileError, UnknownNameError


@cache
def zoo() -> Mapping[str, Mapping[str, Any]]:
    """Return the fields of config.json of every model that has a name, from zoo.toml."""
    text = files("emuron.compiler.frontends").joinpath("zoo.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


def zoo_name(name: str) -> str | None:
    """Return the zoo's name of a model: its own, or its hub name without the owner."""
    short = name.rsplit("/", 1)[-1].lower()
    return next((known for known in (name, short) if known in zoo()), None)


def open_model(name: str, *, seed: int | None = None, weights: bool = True) -> HFModel:
    """Open a model folder, or a zoo model by its name.

    A zoo model has random weights of `seed` (0 if none is given), or only shapes without
    `weights`. Raises ModelFileError for a path that is no model folder, UnknownNameError for a
    name that is neither.
    """
    if Path(name).exists():
        return hf.load(name, weights=weights)
    known = zoo_name(name)
    if known is not None:
        fields = zoo()[known]
        return hf.from_config(fields, name=known, seed=(seed or 0) if weights else None)
    if "/" in name or name.startswith("."):
        raise ModelFileError(
            f"{name} does not exist. Give a folder with config.json and model.safetensors, or a "
            f"model's name: {', '.join(sorted(zoo()))}."
        )
    raise UnknownNameError("model", name, zoo())
