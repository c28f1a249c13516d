"""Models made of PyTorch modules: built from configs, with example inputs, exported to graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from emuron.compiler.frontends.torch import to_graph
from emuron.compiler.frontends.zoo_entries import Part
from emuron.compiler.graph import Graph
from emuron.errors import UnknownNameError, UsageError, missing_extra
from emuron.numerics.dtypes import DType
from emuron.numerics.dtypes import dtype as find_dtype

try:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
except ImportError as error:
    raise missing_extra(error, "Building a model through PyTorch") or error from error


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A model made of PyTorch modules, each one a task; without `seed` of shapes alone."""

    name: str
    modules: Mapping[str, Part]
    seed: int | None = None
    dtype: DType | str | None = None

    @property
    def is_decoder(self) -> bool:
        """Whether it is a decoder of the native reader: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Tasks in the order of running, with how often one answer runs each."""
        return tuple((p.name, p.runs) for p in self.modules.values())

    def graph(self, batch: int, sequence: int, task: str = "") -> Graph:
        """Build the graph of one module for a batch and, where it reads text, a length."""
        part = self.part(task)
        name = f"{self.name}_{part.name}_b{batch}"
        inputs = self.inputs(batch, sequence, part.name)
        if self.seed is not None:
            return to_graph(self.module(part.name), inputs, name=name)
        with torch.device("meta"):
            module = self.module(part.name)
        return to_graph(*_shapes_alone(module, inputs), name=name, weights=False)

    def part(self, task: str = "") -> Part:
        """Return what is known of a task (default: the first); raise UnknownNameError."""
        task = task or next(iter(self.modules))
        if task not in self.modules:
            raise UnknownNameError(f"part of {self.name}", task, self.modules)
        return self.modules[task]

    def module(self, task: str = "") -> Any:
        """Return the module of a task, in evaluation mode, with random weights of the seed."""
        part = self.part(task)
        torch.manual_seed(self.seed or 0)
        library = _library(part.library)
        if part.folder is None or self.seed is None:
            module = library.build(part.wrapped, part.config).eval()
        else:
            module = library.load(part.wrapped, part.folder).eval()
        if part.wrapper:
            from emuron.compiler.frontends import torch_steps

            module = getattr(torch_steps, part.wrapper)(module)
        stored = self.dtype or part.config.get("torch_dtype")
        return module if stored is None else module.to(_torch_dtype(stored))

    def inputs(self, batch: int, sequence: int, task: str = "") -> dict[str, Any]:
        """Return example inputs of a task: random tokens and values, full masks, no caches."""
        part = self.part(task)
        sizes = {**part.config, "batch": batch, "sequence": sequence}
        torch.manual_seed((self.seed or 0) + 1)
        stored = _torch_dtype(self.dtype or part.config.get("torch_dtype") or "float32")
        made: dict[str, Any] = {}
        for name, spec in part.inputs.items():
            group, _, leaf = name.rpartition(".")
            place = made.setdefault(group, {}) if group else made
            place[leaf] = _example(f"{self.name}, {name}", spec, sizes, stored)
        return made


def _shapes_alone(module: Any, inputs: Any) -> tuple[Any, Any]:
    """Return a module of the meta device and inputs as fake tensors of the host.

    What the module computes from nothing then has data, which tells a causal mask from another.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, Any] = {}

    def fake(tensor: Any) -> Any:
        if tensor is None or not tensor.is_meta:
            return tensor
        if id(tensor) not in made:
            with mode:
                empty = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
                is_weight = isinstance(tensor, torch.nn.Parameter)
                made[id(tensor)] = torch.nn.Parameter(empty, False) if is_weight else empty
        return made[id(tensor)]

    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: fake(tensor) for name, tensor in held.items()})
    return module, torch.utils._pytree.tree_map(mode.from_tensor, inputs)


def _library(name: str) -> Any:
    """Return the module that builds and loads the classes of a library."""
    if name not in ("transformers", "diffusers"):
        raise UnknownNameError("library of PyTorch modules", name, ("transformers", "diffusers"))
    return import_module(f"emuron.compiler.frontends.torch_{name}")


def _torch_dtype(name: DType | str) -> Any:
    return getattr(torch, str(find_dtype(name)))


def _example(where: str, spec: str, sizes: Mapping[str, Any], stored: Any) -> Any:
    """Return the tensor (or the list of tensors, for `N * kind`) that a specification describes."""
    count, _, rest = spec.rpartition("* ")
    kind, *dims = rest.split()
    if kind not in _KINDS:
        raise UnknownNameError(f"kind of input ({where})", kind, _KINDS)
    shape = [_size(where, d, sizes) for d in dims]
    copies = [_KINDS[kind](shape, sizes, stored) for _ in range(_size(where, count or "1", sizes))]
    return copies if count else copies[0]


def _size(where: str, text: str, sizes: Mapping[str, Any]) -> int:
    """Return a dimension: factors joined by `*` and `/`, numbers or names of sizes."""
    numerator, *divisors = text.strip().split("/")
    values = [_factor(where, f, sizes) for f in numerator.split("*")]
    return math.prod(values) // math.prod(_factor(where, d, sizes) for d in divisors)


def _factor(where: str, text: str, sizes: Mapping[str, Any]) -> int:
    found = sizes.get(text, text)
    if isinstance(found, str) and found.isdigit():
        return int(found)
    if not isinstance(found, int):
        raise UsageError(f"{where}: the dimension {text!r} is no number and no size of its config")
    return found


_KINDS: Mapping[str, Callable[[list[int], Mapping[str, Any], Any], Any]] = MappingProxyType(
    {
        "tokens": lambda shape, sizes, _: torch.randint(2, sizes["vocab_size"], shape),
        "ones": lambda shape, *_: torch.ones(shape, dtype=torch.long),
        "places": lambda shape, *_: torch.arange(math.prod(shape)).reshape(shape),
        "step": lambda shape, *_: torch.full(shape, 500),
        "values": lambda shape, _, stored: torch.randn(shape).to(stored),
        "empty": lambda shape, _, stored: torch.zeros(shape, dtype=stored),
    }
)
"""Kinds of inputs: token ids, full masks, counted places, a step of diffusion, random values and
empty caches."""
