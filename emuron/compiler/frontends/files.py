"""Opens what lies at a path: by the file's ending, or by what a folder holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from emuron.compiler.frontends import hf
from emuron.compiler.frontends.model import Model
from emuron.compiler.frontends.weights import read_json
from emuron.errors import ModelFileError, UsageError
from emuron.numerics.dtypes import DType

_READERS = (
    (".onnx", "onnx_model"),
    (".pt2", "torch_archive"),
    (".pb", "tensorflow"),
    ("-symbol.json", "mxnet"),
    (".params", "mxnet"),
    (".keras", "keras"),
    (".h5", "keras"),
    (".mlir", "stablehlo"),
    (".mlirbc", "stablehlo"),
    (".jax_export", "stablehlo"),
)
"""Modules here whose `load(path, weights=)` reads a file, by how its name ends."""

_PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of what Python's pickle wrote: opening it can run any code."""


def open_path(path: str | Path, *, weights: bool = True, dtype: DType | str | None = None) -> Model:
    """Open a model's file or folder; without `weights` its graphs are made of shapes alone.

    Folders of Hugging Face models of the native families need no framework; others are built by
    transformers, and those of Diffusers pipelines by diffusers. `dtype` overrides the stored one
    of such folders. Raises ModelFileError for what is no model.
    """
    path = Path(path)
    reader = "tensorflow" if (path / "saved_model.pb").is_file() else _reader(path)
    if reader is not None:
        if dtype is not None:
            raise UsageError(f"{path} holds a program, whose dtype cannot be chosen")
        module = import_module(f"emuron.compiler.frontends.{reader}")
        found: Model = module.load(path, weights=weights)
        return found
    if path.is_dir() and not _is_native(path):
        from emuron.compiler.frontends import torch_folder

        return torch_folder.load(path, weights=weights, dtype=dtype)
    return hf.load(path, weights=weights, dtype=dtype)


def _reader(path: Path) -> str | None:
    if path.is_dir():
        return None
    found = next((name for ending, name in _READERS if path.name.endswith(ending)), None)
    if path.suffix in _PICKLED:
        raise ModelFileError(
            f"{path} is a pickle by its ending, which can run any code when opened and is not "
            "read. Export the program (torch.export.save, torch.onnx.export), or save the model's "
            "folder as safetensors: model.save_pretrained(folder)"
        )
    if found is None:
        endings = ", ".join(ending for ending, _ in _READERS)
        raise ModelFileError(
            f"{path} is no model that is read: give a folder with config.json and "
            f"model.safetensors, a SavedModel folder, or a file that ends in {endings}"
        )
    return found


def _is_native(folder: Path) -> bool:
    """Tell whether the native reader is the one to open a folder, or to say what is wrong."""
    if (folder / "model_index.json").is_file():
        return False
    config = folder / "config.json"
    return not config.is_file() or read_json(config).get("model_type") in (None, *hf.MODEL_TYPES)
