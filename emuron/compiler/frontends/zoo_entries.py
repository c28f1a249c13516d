"""Models by name: the public configs of the zoo.

An entry of `zoo_models/*.toml` is a table under the model's hub name in lower case, owner left out:

* `family`: encoder, decoder, encoder-decoder, vision, diffusion, multimodal or speech;
* `aliases`: other names of the same shapes, of the hub or of published tables;
* `config`: the fields of its config.json; `small`: what the small variant changes of them;
* `like`: another entry whose fields this one takes and overrides;
* `parts`: for models that are built through PyTorch, the modules it is made of, in order, each with
  `module` (class), `library` (transformers, unless said otherwise), `inputs` (by name: kind and
  dimensions, which are numbers, `batch`, `sequence` or fields of the config), `runs` (how often one
  answer runs it) and, where they differ from the entry's, `config` and `small`.

Without `parts` a model is read natively, by its `model_type`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

Fields = Mapping[str, Any]

FAMILIES = (
    "encoder",
    "decoder",
    "encoder-decoder",
    "vision",
    "diffusion",
    "multimodal",
    "speech",
)
"""What a model is for; the coverage table is sorted by it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One PyTorch module of a model: its class, config, inputs and how often an answer runs it."""

    name: str
    module: str
    inputs: Mapping[str, str]
    config: Fields
    library: str = "transformers"
    runs: int = 1
    folder: Path | None = None  # of its weights; None: they are random

    @property
    def wrapper(self) -> str:
        """Name of the module of `torch_steps` around the library's, or ""."""
        return self.module.removesuffix(")").rpartition("(")[0]

    @property
    def wrapped(self) -> str:
        """Name of the library's class."""
        return self.module.removesuffix(")").rpartition("(")[2]


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the zoo; `config` and `parts` are those of the full or of the small variant."""

    name: str
    family: str
    config: Fields
    aliases: tuple[str, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)

    @property
    def is_native(self) -> bool:
        """Whether it is read without a framework."""
        return not self.parts


@cache
def _tables() -> Mapping[str, Fields]:
    tables: dict[str, Fields] = {}
    for file in sorted(
        files("emuron.compiler.frontends").joinpath("zoo_models").iterdir(), key=lambda f: f.name
    ):
        if file.name.endswith(".toml"):
            tables.update(tomllib.loads(file.read_text(encoding="utf-8")))
    return MappingProxyType({name: _inherited(tables, name) for name in tables})


def _inherited(tables: Mapping[str, Fields], name: str) -> Fields:
    table = tables[name]
    return _merged(_inherited(tables, table["like"]), table) if "like" in table else table


def _merged(base: Fields, over: Fields) -> dict[str, Any]:
    """Return the fields of two tables; inner tables are merged too."""
    both = {
        k: _merged(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v
        for k, v in over.items()
    }
    return {**base, **both}


@cache
def zoo(*, small: bool = False) -> Mapping[str, Entry]:
    """Return every model that has a name; `small`: of reduced width and depth."""
    return MappingProxyType({name: _entry(name, t, small) for name, t in _tables().items()})


def _entry(name: str, table: Fields, small: bool) -> Entry:
    config = _config(table, small)
    parts = {
        label: Part(
            label,
            part["module"],
            part["inputs"],
            _merged(config, _config(part, small)),
            part.get("library", "transformers"),
            part.get("runs", 1),
        )
        for label, part in table.get("parts", {}).items()
    }
    return Entry(name, table["family"], config, tuple(table.get("aliases", ())), parts)


def _config(table: Fields, small: bool) -> Fields:
    config: Fields = table.get("config", {})
    return _merged(config, table.get("small", {})) if small else config


@cache
def _names() -> Mapping[str, str]:
    entries = zoo().values()
    return {known.lower(): e.name for e in entries for known in (*e.aliases, e.name)}


def zoo_name(name: str) -> str | None:
    """Return the zoo's name of a model: its own, an alias, or its hub name without the owner."""
    known = name.lower(), name.rsplit("/", 1)[-1].lower()
    return next((_names()[n] for n in known if n in _names()), None)
