"""Graphs of residual networks: resnet18 to resnet152, as torchvision builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emuron.compiler.frontends.cnn_layers import ImageNetwork
from emuron.compiler.frontends.config import ConfigReader
from emuron.compiler.frontends.weights import Weights
from emuron.compiler.graph import Graph, Value
from emuron.numerics.dtypes import DType

_EXPANSION = 4  # outputs of a bottleneck by its width


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """The fields of a config that shape a residual network; widths double from stage to stage."""

    depths: tuple[int, ...]
    width: int
    bottleneck: bool
    size: int
    labels: int

    @classmethod
    def read(cls, fields: Mapping[str, Any], where: str) -> ResNetConfig:
        """Read a config's fields; raise ModelFileError for a missing or senseless one."""
        r = ConfigReader(fields, where)
        return cls(
            depths=r.sizes("depths"),
            width=r.size("width"),
            bottleneck=r.flag("bottleneck", True),
            size=r.size("image_size"),
            labels=r.size("num_labels"),
        )

    def graph(self, weights: Weights, dtype: DType, batch: int, size: int) -> Graph:
        """Build the graph from pixels to the scores of the labels."""
        net = ImageNetwork("resnet", weights, dtype, batch, size)
        b = net.builder
        with b.scope("stem"):
            x = net.conv("conv1", net.pixels, self.width, 7, stride=2)
            x = net.relu(net.norm("bn1", x))
            x = b.reduce_window("max", x, (3, 3), stride=2, padding=1)
        for stage, depth in enumerate(self.depths):
            for index in range(depth):
                name = f"layer{stage + 1}.{index}"
                with b.scope(name):
                    stride = 2 if stage > 0 and index == 0 else 1
                    x = self._block(net, name, x, self.width << stage, stride)
        with b.scope("head"):
            pooled = b.reduce("mean", x, (2, 3))
            b.output("logits", net.linear("fc", pooled, self.labels))
        return b.finish()

    def _block(self, net: ImageNetwork, name: str, x: Value, width: int, stride: int) -> Value:
        """Return relu(shortcut + layers); the shortcut is written first, to be added at the end."""
        outputs = width * _EXPANSION if self.bottleneck else width
        shortcut = x
        if stride > 1 or x.shape[1] != outputs:
            shortcut = net.conv(f"{name}.downsample.0", x, outputs, 1, stride=stride)
            shortcut = net.norm(f"{name}.downsample.1", shortcut)
        kernels = ((width, 1), (width, 3), (outputs, 1)) if self.bottleneck else ((width, 3),) * 2
        strided = 1 if self.bottleneck else 0
        for number, (channels, kernel) in enumerate(kernels):
            step = stride if number == strided else 1
            x = net.conv(f"{name}.conv{number + 1}", x, channels, kernel, stride=step)
            x = net.norm(f"{name}.bn{number + 1}", x)
            if number < len(kernels) - 1:
                x = net.relu(x)
        return net.relu(net.builder.add(x, shortcut))
