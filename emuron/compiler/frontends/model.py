"""What every way of reading a model gives: something that builds graphs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from emuron.compiler.graph import Graph


@runtime_checkable
class Model(Protocol):
    """A model whose graphs are built on demand, for a batch and a number of tokens.

    `parts` are its tasks, each a network of its own, with how often one answer runs it.
    """

    @property
    def name(self) -> str:
        """Name for reports."""

    @property
    def is_decoder(self) -> bool:
        """Whether the model generates text natively (has prefill and decode graphs)."""

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Tasks that `graph` knows and that one answer runs, in order, with how often."""

    def graph(self, batch: int, sequence: int, task: str = "") -> Graph:
        """Build the graph of a task (default: the model's first); models of images have no
        sequence. Raises UnknownNameError for another task.
        """
