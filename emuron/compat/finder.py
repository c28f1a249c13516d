"""The import hook behind the stand-ins: public module names, each with what answers for it.

The finder stands last on `sys.meta_path`, so that it is asked only for what nothing else finds;
names in `shadow` are looked for first. It never answers for a part of a package that it did not
load itself: an installed package and the stand-ins are not mixed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any

from emuron.errors import UnknownNameError

SHADOW_VARIABLE = "EMURON_SHADOW"

PACKAGE_ONLY = ""
"""Marks a public package that has parts and no names of its own."""

_NKI: Mapping[str, str] = MappingProxyType(
    {
        "nki": "emuron.compat.nki",
        "nki.language": "emuron.nki.language",
        "nki.language.dtypes": "emuron.compat.dtypes",
        "nki.dtype": "emuron.compat.dtypes",
        "nki.dtypes": "emuron.compat.dtypes",
        "nki.isa": "emuron.nki.isa",
        "nki.isa.constants": "emuron.nki.isa:constants",
        "nki.collectives": "emuron.nki.collectives",
        "nki.typing": "emuron.compat.typing",
        "nki.tensor": "emuron.nki.tensor",
        "nki.meta": PACKAGE_ONLY,
        "nki.meta.tensor": "emuron.nki.tensor",
        "nki.builtin": "emuron.compat.nki",
        "nki.compiler": PACKAGE_ONLY,
        "nki.experimental": "emuron.nki.language",
    }
)

MODULES: Mapping[str, str] = MappingProxyType(
    {
        **_NKI,
        "nki_cpu_simulator": PACKAGE_ONLY,
        **{f"nki_cpu_simulator.{public}": backing for public, backing in _NKI.items()},
        "nki.compile": "emuron.compat.framework",
        "nki.compiler.backends": PACKAGE_ONLY,
        "nki.compiler.backends.neuron": "emuron.compat.framework",
        "nki.compiler.backends.neuron.FrameworkKernel": "emuron.compat.framework",
        "nki.compiler.driver": "emuron.compat.driver",
        "nki.compiler.frontend": "emuron.compat.frontend",
        "nki.compiler.kernel_builder": "emuron.compat.driver",
        "nki.compiler.ncc_driver": "emuron.compat.driver",
        "nki.framework": PACKAGE_ONLY,
        "nki.framework.compiled": "emuron.compat.framework",
        "nki.framework.kernel": "emuron.compat.framework",
        "nki.runtime": "emuron.compat.runtime",
        "neuron_dtypes": "emuron.compat.dtypes",
        "neuronxcc": PACKAGE_ONLY,
        "neuronxcc.nki": PACKAGE_ONLY,
        "neuronxcc.nki.typing": "emuron.compat.typing",
        "neuronxcc.starfish": PACKAGE_ONLY,
        "neuronxcc.starfish.support": PACKAGE_ONLY,
        "neuronxcc.starfish.support.dtype": "emuron.compat.dtypes",
        "torch_xla": "emuron.compat.torch_xla",
        "torch_xla.core": PACKAGE_ONLY,
        "torch_xla.core.xla_model": "emuron.compat.torch_xla",
    }
)
"""Each public module and the module (or `module:attribute`) whose names it has."""


def install(shadow: Iterable[str] = ()) -> None:
    """Make the stand-ins importable; `shadow` names packages to replace even where installed.

    May be called again to shadow more. Raises UnknownNameError for a package without a stand-in.
    """
    first = frozenset(shadow)
    known = {name for name in MODULES if "." not in name}
    for name in sorted(first - known):
        raise UnknownNameError("stand-in package", name, known)
    found = [finder for finder in sys.meta_path if isinstance(finder, CompatFinder)]
    if not found:
        sys.meta_path.append(CompatFinder(known))
    if first:
        sys.meta_path.insert(0, CompatFinder(first))


class CompatFinder(MetaPathFinder):
    """Finds the stand-ins of some top-level packages."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a stand-in, None for any other module."""
        backing = MODULES.get(fullname)
        parent, _, _ = fullname.rpartition(".")
        if backing is None or fullname.partition(".")[0] not in self.packages:
            return None
        if parent and not _is_stand_in(sys.modules.get(parent)):
            return None
        return ModuleSpec(fullname, StandIn(backing), is_package=True)


class StandIn(Loader):
    """Loads a public module: the names of its backing module, and its parts on first use."""

    def __init__(self, backing: str) -> None:
        self.backing = backing

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return None: an ordinary module is meant."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its names."""
        source, name = _resolved(self.backing), module.__name__
        names = getattr(source, "__all__", dir(source))
        public = [key for key in names if not key.startswith("_")]
        module.__doc__ = getattr(source, "__doc__", None)
        module.__dict__.update({key: getattr(source, key) for key in public})

        def attribute(key: str) -> Any:
            if f"{name}.{key}" in MODULES:
                return import_module(f"{name}.{key}")
            if source is not None and not key.startswith("__"):
                return getattr(source, key)
            raise AttributeError(f"module '{name}' has no attribute '{key}'")

        module.__dict__["__getattr__"] = attribute


def _resolved(backing: str) -> Any:
    if backing == PACKAGE_ONLY:
        return None
    module, _, attribute = backing.partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def _is_stand_in(module: ModuleType | None) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), StandIn)
