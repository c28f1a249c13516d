"""What the native builders of convolutional networks share: weights and layers by name."""

from __future__ import annotations

from emuron.compiler.frontends.weights import Weights
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.numerics.dtypes import DType

_EPSILON = 1e-5
"""torch.nn.BatchNorm2d's default."""


class ImageNetwork:
    """Grows the graph of a classifier of images [batch, 3, size, size]; names as torchvision's."""

    def __init__(self, name: str, weights: Weights, dtype: DType, batch: int, size: int) -> None:
        """Begin with the input `pixel_values`."""
        self.builder = GraphBuilder(name)
        self.weights = weights
        self.dtype = dtype
        self.pixels = self.builder.input("pixel_values", TensorType((batch, 3, size, size), dtype))

    def weight(self, name: str, *shape: int) -> Value:
        """Return a weight."""
        type = TensorType(shape, self.dtype)
        return self.builder.parameter(name, type, self.weights.loader(name, type))

    def conv(
        self,
        name: str,
        x: Value,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        bias: bool = False,
    ) -> Value:
        """Return a convolution whose padding keeps the size (of stride 1)."""
        weight = self.weight(f"{name}.weight", outputs, x.shape[1], kernel, kernel)
        shift = self.weight(f"{name}.bias", outputs) if bias else None
        return self.builder.conv(x, weight, shift, stride=stride, padding=kernel // 2)

    def norm(self, name: str, x: Value) -> Value:
        """Return a batch norm by known moments."""
        fields = ("weight", "bias", "running_mean", "running_var")
        operands = [self.weight(f"{name}.{field}", x.shape[1]) for field in fields]
        return self.builder.batch_norm(x, *operands, epsilon=_EPSILON)

    def linear(self, name: str, x: Value, outputs: int) -> Value:
        """Return a linear layer with a bias."""
        weight = self.weight(f"{name}.weight", outputs, x.shape[-1])
        return self.builder.linear(x, weight, self.weight(f"{name}.bias", outputs))

    def relu(self, x: Value) -> Value:
        """Return the positive part."""
        return self.builder.apply("relu", x)
