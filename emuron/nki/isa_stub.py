"""Writes `isa.pyi`, what editors and type checkers see of `nki.isa`.

python -m emuron.nki.isa_stub
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from emuron.isa.instruction import REGISTRY, Instruction
from emuron.nki import enums, isa

STUB = Path(isa.__file__).with_suffix(".pyi")

_OPERANDS = {
    "In": "AccessPattern",
    "Out": "AccessPattern",
    "InOut": "AccessPattern",
    "OptIn": "AccessPattern | None",
    "OptOut": "AccessPattern | None",
    "Scalar": "AccessPattern | float | None",
}
_PLAIN = frozenset(
    {*_OPERANDS.values(), "str", "str | None", "bool", "bool | None", "int", "int | None", "float"}
    | {"float | None"}
)
_HEADER = """\
# Generated from the instruction classes by `python -m emuron.nki.isa_stub`; do not edit.
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from emuron.isa.instruction import REGISTRY as REGISTRY
from emuron.isa.tensor import AccessPattern
"""
_REGISTERS = (
    "".join(
        f"from emuron.nki.registers import {name} as {name}\n"
        for name in (
            "VirtualRegister",
            "register_alloc",
            "register_load",
            "register_move",
            "register_store",
        )
    )
    + "from emuron.nki.scheduling import NkiInstruction as NkiInstruction\n"
)
_FOOTER = """
constants: SimpleNamespace
tensor_engine: engine
vector_engine: engine
scalar_engine: engine
gpsimd_engine: engine
unknown_engine: engine

def get_nc_version() -> nc_version: ...
def get_nc_sub_version() -> int: ...
"""
_DMA_COMPUTE = (
    "dst: AccessPattern",
    "srcs: Sequence[AccessPattern]",
    "reduce_op: str",
    "scales: Sequence[float] | None = ...",
    "unique_indices: bool = ...",
    "oob_mode: str = ...",
)


def stub() -> str:
    """Return the text of `isa.pyi`."""
    names = (*sorted({member.__name__ for member in enums.OF_ATTRIBUTE.values()}), "nc_version")
    imports = "".join(f"from emuron.nki.enums import {n} as {n}\n" for n in sorted(names))
    exposed = (cls for _, cls in sorted(REGISTRY.items()) if cls.exposed)
    functions = "".join(_function(cls) for cls in exposed)
    return f"{_HEADER}{imports}{_REGISTERS}{_FOOTER}{functions}"


def _function(cls: type[Instruction]) -> str:
    parameters = _DMA_COMPUTE if cls.mnemonic == "dma_compute" else map(_parameter, fields(cls))
    lines = "".join(f"    {p},\n" for p in (*parameters, "name: str | None = ..."))
    return f"def {cls.mnemonic}(\n{lines}) -> NkiInstruction: ...\n"


def _parameter(field: Field[Any]) -> str:
    kind = str(field.type)
    annotation = _OPERANDS.get(kind, kind)
    if annotation not in _PLAIN:
        annotation = "Any"
    default = "" if field.default is MISSING else " = ..."
    return f"{field.name}: {annotation}{default}"


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
