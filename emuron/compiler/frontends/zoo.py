"""Opens models: by the path of a file or folder, or by their name in the zoo."""

from __future__ import annotations

from pathlib import Path

from emuron.compiler.frontends import cnn, files, hf
from emuron.compiler.frontends.model import Model
from emuron.compiler.frontends.zoo_entries import Entry, zoo, zoo_name
from emuron.errors import ModelFileError, UnknownNameError
from emuron.numerics.dtypes import DType

__all__ = ["open_model", "zoo", "zoo_name"]


def open_model(
    name: str,
    *,
    seed: int | None = None,
    weights: bool = True,
    small: bool = False,
    dtype: DType | str | None = None,
) -> Model:
    """Open a model's file or folder (see `files.open_path`), or a zoo model by its name.

    A zoo model has random weights of `seed` (0 if none is given), or only shapes without
    `weights`; `small` takes its reduced variant; `dtype` overrides the stored one.
    Raises ModelFileError for a path that holds no model, UnknownNameError for a name that is
    neither.
    """
    if Path(name).exists():
        return files.open_path(name, weights=weights, dtype=dtype)
    known = zoo_name(name)
    if known is not None:
        return _open(zoo(small=small)[known], (seed or 0) if weights else None, dtype)
    if "/" in name or name.startswith("."):
        raise ModelFileError(
            f"{name} does not exist. Give a folder with config.json and model.safetensors, or a "
            f"model's name: {', '.join(sorted(zoo()))}."
        )
    raise UnknownNameError("model", name, zoo())


def _open(entry: Entry, seed: int | None, dtype: DType | str | None) -> Model:
    if entry.is_native and entry.config["model_type"] in cnn.MODEL_TYPES:
        return cnn.from_config(entry.config, name=entry.name, seed=seed, stored=dtype)
    if entry.is_native:
        return hf.from_config(entry.config, name=entry.name, seed=seed, dtype=dtype)
    from emuron.compiler.frontends.torch_model import TorchModel

    return TorchModel(entry.name, entry.parts, seed, dtype)
