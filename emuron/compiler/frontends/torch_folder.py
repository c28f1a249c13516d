"""Folders of Hugging Face models, built by transformers, and of Diffusers pipelines.

What a class is called with is that of the zoo's entry of its kind, else follows from the name of
its main input.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emuron.compiler.frontends.torch_model import TorchModel
from emuron.compiler.frontends.weights import read_json
from emuron.compiler.frontends.zoo_entries import Part, zoo
from emuron.errors import ModelFileError, UnsupportedOpError
from emuron.numerics.dtypes import DType

_MASK = {"attention_mask": "ones batch sequence"}
_INPUTS: Mapping[str, Mapping[str, str]] = {
    "input_ids": {"input_ids": "tokens batch sequence", **_MASK},
    "pixel_values": {"pixel_values": "values batch num_channels image_size image_size"},
    "input_features": {"input_features": "values batch num_mel_bins 2*max_source_positions"},
    "input_values": {"input_values": "values batch sequence"},
}
"""What a class of transformers is called with, by its main input; as `Part.inputs` has it."""


def load(folder: Path, *, weights: bool = True, dtype: DType | str | None = None) -> TorchModel:
    """Open a folder; raise ModelFileError for one that is neither, UnsupportedOpError for a class
    whose inputs are not known.
    """
    pipeline = (folder / "model_index.json").is_file()
    parts = _components(folder) if pipeline else _model_parts(folder)
    return TorchModel(folder.resolve().name, parts, 0 if weights else None, dtype)


def _model_parts(folder: Path) -> dict[str, Part]:
    from emuron.compiler.frontends.torch_transformers import all_fields, main_input

    fields = read_json(folder / "config.json")
    kind = fields.get("model_type")
    for entry in zoo().values():
        if not entry.is_native and entry.config.get("model_type") == kind:
            return {
                name: _in(part, folder, all_fields(part.wrapped, fields))
                for name, part in entry.parts.items()
            }
    names = fields.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelFileError(f"{folder / 'config.json'}: the field 'architectures' names no class")
    main = main_input(names[0])
    if main not in _INPUTS:
        raise UnsupportedOpError(
            f"{folder}: what {names[0]} is called with is not known (its main input is {main!r}); "
            "compile the PyTorch module with example inputs instead"
        )
    return {
        "main": Part(
            "main", names[0], _INPUTS[main], _flat(all_fields(names[0], fields)), folder=folder
        )
    }


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with those of the inner configs that inputs are made from."""
    found = {"num_channels": 3, **fields}
    for inner in ("vision_config", "text_config"):
        for name in ("image_size", "vocab_size"):
            found.setdefault(name, fields.get(inner, {}).get(name))
    return {k: v for k, v in found.items() if v is not None}


def _in(part: Part, folder: Path, fields: Mapping[str, Any]) -> Part:
    return Part(part.name, part.module, part.inputs, _flat(fields), part.library, part.runs, folder)


def _components(folder: Path) -> dict[str, Part]:
    """Return the networks of a Diffusers pipeline whose inputs are known."""
    known = {
        (part.library, part.wrapped): part
        for entry in zoo().values()
        for part in entry.parts.values()
    }
    found = {}
    for name, value in read_json(folder / "model_index.json").items():
        if not isinstance(value, list) or len(value) != 2 or not (folder / name).is_dir():
            continue
        part = known.get((str(value[0]), str(value[1])))
        if part is not None:
            fields = {**part.config, **read_json(folder / name / "config.json")}
            found[part.name if name == "vae" else name] = _in(part, folder / name, fields)
    if not found:
        raise ModelFileError(f"{folder / 'model_index.json'} names no network that is known here")
    return found
