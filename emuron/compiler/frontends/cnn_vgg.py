"""Graphs of VGG networks: vgg11 to vgg19, as torchvision builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from emuron.compiler.frontends.cnn_layers import ImageNetwork
from emuron.compiler.frontends.config import ConfigReader
from emuron.compiler.frontends.weights import Weights
from emuron.compiler.graph import Graph, Value
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import DType

_POOLED = 7  # height and width that the classifier takes


@dataclass(frozen=True, slots=True)
class VggConfig:
    """The fields of a config that shape a VGG network: 3×3 layers of each stage, then pooling."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    hidden: int
    size: int
    labels: int

    @classmethod
    def read(cls, fields: Mapping[str, Any], where: str) -> VggConfig:
        """Read a config's fields; raise ModelFileError for a missing or senseless one."""
        r = ConfigReader(fields, where)
        depths, widths = r.sizes("depths"), r.sizes("widths")
        if len(depths) != len(widths):
            raise ModelFileError(f"{where}: {len(depths)} 'depths' do not fit {len(widths)} widths")
        return cls(depths, widths, r.size("hidden"), r.size("image_size"), r.size("num_labels"))

    def graph(self, weights: Weights, dtype: DType, batch: int, size: int) -> Graph:
        """Build the graph from pixels to the scores of the labels."""
        net = ImageNetwork("vgg", weights, dtype, batch, size)
        b = net.builder
        x, number = net.pixels, 0
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            with b.scope(f"features.{stage}"):
                for _ in range(depth):
                    x = net.relu(net.conv(f"features.{number}", x, width, 3, bias=True))
                    number += 2
                x = b.reduce_window("max", x, (2, 2), stride=2)
                number += 1
        with b.scope("classifier"):
            x = b.reshape(_pooled(net, x), batch, -1)
            for layer, outputs in enumerate((self.hidden, self.hidden, self.labels)):
                x = net.linear(f"classifier.{3 * layer}", x, outputs)
                x = net.relu(x) if layer < 2 else x
            b.output("logits", x)
        return b.finish()


def _pooled(net: ImageNetwork, x: Value) -> Value:
    """Return x averaged to the size that the classifier takes."""
    height = x.shape[2]
    if height == _POOLED:
        return x
    if prod(x.shape[2:]) == 1:
        return net.builder.broadcast(x, (*x.shape[:2], _POOLED, _POOLED))
    if height % _POOLED:
        raise ModelFileError(
            f"images of this size leave {height}×{height} before the classifier, which averages "
            f"them to {_POOLED}×{_POOLED}; choose a multiple of 224, or 32"
        )
    step = height // _POOLED
    return net.builder.reduce_window("avg", x, (step, step), stride=step)
