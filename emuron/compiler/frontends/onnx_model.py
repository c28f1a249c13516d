"""ONNX files as models: a graph for each batch and number of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emuron.compiler.frontends.onnx import to_graph
from emuron.compiler.frontends.onnx_read import OnnxFile, read_model
from emuron.compiler.graph import Graph
from emuron.errors import UnknownNameError

_TASK = "main"


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A model in an ONNX file; its one task is the file's graph."""

    name: str
    file: OnnxFile
    with_data: bool = True

    @property
    def is_decoder(self) -> bool:
        """Whether it generates text natively: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The file's graph, once."""
        return ((_TASK, 1),)

    def graph(
        self,
        batch: int = 1,
        sequence: int = 128,
        task: str = "",
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Graph:
        """Build the graph; what `shapes` does not give, `batch` and `sequence` bind.

        Raises UnknownNameError for a task, UsageError for a batch other than a fixed one.
        """
        if task not in ("", _TASK):
            raise UnknownNameError(f"task of {self.name}", task, (_TASK,))
        return to_graph(
            self.file,
            batch=batch,
            sequence=sequence,
            shapes=shapes,
            weights=self.with_data,
        )


def load(path: str | Path, *, weights: bool = True) -> OnnxModel:
    """Open an ONNX file; raise ModelFileError if it is none.

    Without `weights` graphs are made of shapes alone.
    """
    file = read_model(path)
    return OnnxModel(file.name, file, weights)
