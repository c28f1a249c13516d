"""emuron: AWS Inferentia and Trainium in software.

Names are loaded on first use, so that `import emuron` is quick and imports no optional dependency.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Any

__version__ = "0.1.0"

_MODULE_OF_NAME = MappingProxyType(
    {
        "EmuronError": "emuron.errors",
        "chip": "emuron.hardware.catalog",
        "chips": "emuron.hardware.catalog",
        "compile_model": "emuron.compiler.compile",
        "instance": "emuron.hardware.catalog",
        "instances": "emuron.hardware.catalog",
        "load": "emuron.compiler.artifact",
    }
)

__all__ = ["__version__", *_MODULE_OF_NAME]  # noqa: PLE0604 (the keys are strings)


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    try:
        module = _MODULE_OF_NAME[name]
    except KeyError:
        raise AttributeError(f"module 'emuron' has no attribute '{name}'") from None
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
