"""Keras models, `.keras` and `.h5`, through Keras on JAX: the front end that imports Keras."""

from __future__ import annotations

import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emuron.compiler.frontends.known_values import narrowed
from emuron.compiler.graph import Graph
from emuron.errors import (
    EmuronError,
    ModelFileError,
    UnknownNameError,
    UnsupportedOpError,
    UsageError,
    missing_extra,
)

os.environ.setdefault("KERAS_BACKEND", "jax")
try:
    import jax
    import keras
except ImportError as error:
    raise missing_extra(error, "Reading a Keras model") or error from error

from emuron.compiler.frontends.jax import to_graph as from_jax

_MOST_EXPANDED_BYTES = 1 << 34
_MOST_EXPANSION = 50
"""Weights are noise and hardly shrink: an archive that grows more is none of a model."""

_UNCHECKED_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class KerasModel:
    """A Keras model; its one task is the forward pass, as for serving."""

    name: str
    model: Any
    with_data: bool = True

    @property
    def is_decoder(self) -> bool:
        """Whether it generates text natively: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The one network."""
        return (("forward", 1),)

    def graph(self, batch: int = 1, sequence: int = 128, task: str = "") -> Graph:
        """Build the graph; unknown sizes are `batch` in the first and `sequence` in other places.

        Raises UnknownNameError for another task, UnsupportedOpError for what cannot be compiled.
        """
        if task not in ("", "forward"):
            raise UnknownNameError("task", task, ("forward",))
        model = self.model
        shapes = {x.name: _struct(x, batch, sequence) for x in model.inputs}
        order = [x.name for x in model.inputs]
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        split = len(model.trainable_variables)

        def call(params: dict[str, Any], **inputs: Any) -> Any:
            held = [params[v.path] for v in variables]
            given = [inputs[name] for name in order]
            taken = given if len(given) > 1 else given[0]
            found, _ = model.stateless_call(held[:split], held[split:], taken, training=False)
            return found

        params = {v.path: v.value for v in variables}
        return from_jax(call, shapes, params=params, name=self.name, weights=self.with_data)


def _struct(x: Any, batch: int, sequence: int) -> Any:
    sizes = (batch if i == 0 else sequence for i in range(len(x.shape)))
    shape = tuple(u if n is None else n for n, u in zip(x.shape, sizes, strict=True))
    return jax.ShapeDtypeStruct(shape, narrowed(str(x.dtype)).np)


def load(path: str | Path, *, weights: bool = True) -> KerasModel:
    """Open a `.keras` or `.h5` file; no code in it is run, so that Lambda layers are refused.

    Without `weights` graphs are made of shapes alone. Raises ModelFileError for a damaged file and
    UsageError if Keras has been imported on another back end.
    """
    file = Path(path)
    if keras.backend.backend() != "jax":
        raise UsageError(
            f"Keras runs on {keras.backend.backend()} in this process; set KERAS_BACKEND=jax "
            "before it is imported"
        )
    if not file.is_file():
        raise ModelFileError(f"{file} is no file")
    if zipfile.is_zipfile(file):
        _refuse_bomb(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.models.load_model(file, compile=False, safe_mode=True)
    except EmuronError:
        raise
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        if "lambda" in str(error).lower():
            raise UnsupportedOpError(
                f"{file} holds a Lambda layer, whose code is not run; write it as a layer"
            ) from error
        raise ModelFileError(f"{file} cannot be read as a Keras model: {first}") from error
    return KerasModel(str(model.name), model, weights)


def _refuse_bomb(file: Path) -> None:
    try:
        entries = zipfile.ZipFile(file).infolist()
    except zipfile.BadZipFile as error:
        raise ModelFileError(f"{file}: its archive is damaged ({error})") from error
    expanded = sum(e.file_size for e in entries)
    if expanded > _MOST_EXPANDED_BYTES or (
        expanded > _UNCHECKED_BYTES and expanded > _MOST_EXPANSION * file.stat().st_size
    ):
        raise ModelFileError(
            f"{file}: {file.stat().st_size} bytes claim to hold {expanded}; not opened"
        )
