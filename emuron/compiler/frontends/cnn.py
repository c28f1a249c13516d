"""Convolutional classifiers by their configs, built natively: no framework is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from emuron.compiler.frontends.cnn_resnet import ResNetConfig
from emuron.compiler.frontends.cnn_vgg import VggConfig
from emuron.compiler.frontends.weights import NoWeights, RandomWeights, Weights
from emuron.compiler.graph import Graph
from emuron.errors import UnknownNameError, UsageError
from emuron.numerics.dtypes import DType, dtype, float32

_FAMILIES: Mapping[str, type[ResNetConfig] | type[VggConfig]] = MappingProxyType(
    {"resnet": ResNetConfig, "vgg": VggConfig}
)

MODEL_TYPES = tuple(_FAMILIES)
"""Values of a config's `model_type` that these modules build."""


@dataclass(frozen=True, slots=True, eq=False)
class CnnModel:
    """A classifier of images: its config, its weights' source and its dtype."""

    name: str
    config: ResNetConfig | VggConfig
    weights: Weights
    dtype: DType

    @property
    def is_decoder(self) -> bool:
        """Whether the model generates text: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The one task."""
        return (("classify", 1),)

    def graph(self, batch: int, sequence: int = 0, task: str = "") -> Graph:
        """Build the graph for a batch of images; `sequence` has no meaning for them."""
        if task not in ("", "classify", "features"):
            raise UnknownNameError(f"task of {self.name}", task, ("classify",))
        if batch < 1:
            raise UsageError(f"batch must be at least 1, found {batch}")
        return self.config.graph(self.weights, self.dtype, batch, self.config.size)


def from_config(
    fields: Mapping[str, Any],
    *,
    name: str = "model",
    seed: int | None = None,
    stored: DType | str | None = None,
) -> CnnModel:
    """Make a model from a config's fields: shapes alone, or random weights from `seed`."""
    kind = str(fields.get("model_type", ""))
    if kind not in _FAMILIES:
        raise UnknownNameError("convolutional model type", kind, _FAMILIES)
    config = _FAMILIES[kind].read(fields, f"config of {name}")
    source: Weights = NoWeights() if seed is None else RandomWeights(seed)
    return CnnModel(name, config, source, dtype(float32 if stored is None else stored))
