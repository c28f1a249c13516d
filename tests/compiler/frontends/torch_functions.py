"""A function as a PyTorch module, for tests that call the front end with functions."""

from __future__ import annotations

from typing import Any

import torch


class Apply(torch.nn.Module):
    """A module that is one function of its inputs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)
