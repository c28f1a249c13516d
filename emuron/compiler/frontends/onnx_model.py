"""An ONNX file as a model whose graph is built on demand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emuron.compiler.graph import Graph
from emuron.errors import ModelFileError, UnknownNameError


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """The graph of an `.onnx` file; the file is read when the graph is built."""

    name: str
    path: Path
    with_data: bool = True

    @property
    def is_decoder(self) -> bool:
        """Whether it is a decoder of the native reader: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The file's one graph."""
        return (("main", 1),)

    def graph(self, batch: int = 1, sequence: int = 128, task: str = "") -> Graph:
        """Build the graph, dynamic dimensions bound as `onnx.to_graph` says."""
        if task not in ("", "main"):
            raise UnknownNameError(f"task of {self.name}", task, ("main",))
        from emuron.compiler.frontends.onnx import to_graph

        return to_graph(
            self.path, batch=batch, sequence=sequence, name=self.name, weights=self.with_data
        )


def load(path: str | Path, *, weights: bool = True) -> OnnxModel:
    """Open an `.onnx` file; without `weights` its graph is made of shapes alone."""
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist")
    return OnnxModel(path.stem, path, weights)
