"""StableHLO modules, text or bytecode, and files of `jax.export`, by jaxlib's MLIR bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.compiler.frontends import stablehlo_control as _control
from emuron.compiler.frontends import stablehlo_ops as _ops
from emuron.compiler.frontends.known_values import KnownValues, narrow, narrowed
from emuron.compiler.frontends.stablehlo_call import TABLE, Call
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.passes.recognize import recognize
from emuron.errors import (
    EmuronError,
    ModelFileError,
    UnknownNameError,
    UnsupportedOpError,
    missing_extra,
)

try:
    from jax.interpreters.mlir import make_ir_context
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo as hlo
except ImportError as error:
    raise missing_extra(error, "Reading StableHLO") or error from error

MODULES = (_control, _ops)
"""Where the handlers of the table stand: importing them fills it."""

_BYTECODE = b"ML\xefR"
_MOST_BYTES = 1 << 31
_MOST_CALLS = 64
_MOST_OPERATIONS = 200_000
_ELEMENTS: Mapping[str, str] = MappingProxyType(
    {
        "i1": "bool",
        "f16": "float16",
        "bf16": "bfloat16",
        "f32": "float32",
        "f64": "float64",
        "f8E4M3FN": "float8_e4m3fn",
        "f8E5M2": "float8_e5m2",
        **{f"i{n}": f"int{n}" for n in (8, 16, 32, 64)},
        **{f"ui{n}": f"uint{n}" for n in (8, 16, 32, 64)},
    }
)
_STRUCTURES = MappingProxyType(
    {
        "dot_dimension_numbers": hlo.DotDimensionNumbers,
        "scatter_dimension_numbers": hlo.ScatterDimensionNumbers,
    }
)
_ENDS = ("func.return", "stablehlo.return")


@dataclass(frozen=True, slots=True)
class StableHloModel:
    """A StableHLO module whose public function is the one network."""

    name: str
    module: str | bytes

    @property
    def is_decoder(self) -> bool:
        """Whether it generates text natively: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The one network."""
        return (("main", 1),)

    def graph(self, batch: int = 1, sequence: int = 128, task: str = "") -> Graph:
        """Build the graph; shapes are those of the module, whatever is asked for."""
        if task not in ("", "main"):
            raise UnknownNameError("task", task, ("main",))
        return to_graph(self.module, name=self.name)


def load(path: str | Path, *, weights: bool = True) -> StableHloModel:
    """Open a file of StableHLO (text or bytecode) or of `jax.export`.

    Its weights are inputs or constants, so that `weights` changes nothing. Raises ModelFileError
    for a file that is neither.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise ModelFileError(f"{file}: {size} bytes exceed the {_MOST_BYTES} that are read")
        content = file.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read: {error.strerror or error}") from error
    if content.startswith(_BYTECODE):
        return StableHloModel(file.stem, content)
    try:
        return StableHloModel(file.stem, content.decode())
    except UnicodeDecodeError:
        return StableHloModel(file.stem, _exported(file, content))


def _exported(file: Path, content: bytes) -> bytes:
    """Return the module in what `jax.export` serializes: bytecode within a flat buffer."""
    start = content.find(_BYTECODE)
    if start < 0:
        raise ModelFileError(f"{file} is neither StableHLO nor what jax.export serializes")
    size = int.from_bytes(content[start - 4 : start], "little") if start >= 4 else 0
    if not 0 < size <= len(content) - start:
        raise ModelFileError(f"{file}: its module claims {size} bytes; the file is damaged")
    return content[start : start + size]


def to_graph(module: str | bytes, *, name: str = "main") -> Graph:
    """Build the graph of a StableHLO module, text or bytecode, by its public function.

    Raises ModelFileError if it does not parse, UnsupportedOpError for an operator that is not
    known, with its location.
    """
    b = GraphBuilder(name)
    importer = _Importer(b, KnownValues(b), module)
    main = importer.main()
    operands: list[Value] = []
    for place, argument in enumerate(main.regions[0].blocks[0].arguments):
        label = str(argument.location).partition('"')[2].partition('"')[0]
        plain = label.replace("_", "").replace(".", "").isalnum()
        taken = {v.name for v in operands}
        label = label if plain and label not in taken else f"input_{place}"
        operands.append(b.input(label, _type(argument.type)))
    results = importer.inline("main", *operands)
    for place, value in enumerate(results):
        b.output("output" if len(results) == 1 else f"output_{place}", value)
    return recognize(b.finish())


def inline_module(
    b: GraphBuilder, known: KnownValues, module: str | bytes, operands: Sequence[Value]
) -> list[Value]:
    """Write a module's public function on operands into a growing graph."""
    results: list[Value] = _Importer(b, known, module).inline("main", *operands)
    return results


class _Importer:
    """The state of one import: the module and its functions."""

    def __init__(self, b: GraphBuilder, known: KnownValues, module: str | bytes) -> None:
        self.b = b
        self.known = known
        self.module = _parsed(module)
        self.functions = {
            ir.StringAttr(f.attributes["sym_name"]).value: f.operation
            for f in self.module.body.operations
            if f.operation.name == "func.func"
        }
        self.depth = 0
        self.left = _MOST_OPERATIONS

    def main(self) -> Any:
        """Return the public function."""
        if "main" in self.functions:
            return self.functions["main"]
        if len(self.functions) != 1:
            raise ModelFileError(f"the module has no function main: {', '.join(self.functions)}")
        return next(iter(self.functions.values()))

    def inline(self, body: Any, *operands: Value, outer: Mapping[Any, Value] | None = None) -> Any:
        """Return the results of a function, by name, or of a region on operands."""
        if isinstance(body, str):
            found = self.main() if body == "main" else self.functions.get(body)
            if found is None:
                raise ModelFileError(f"the module calls {body!r}, which it does not hold")
            body = found.regions[0]
        if self.depth >= _MOST_CALLS:
            raise ModelFileError(f"functions call each other more than {_MOST_CALLS} deep")
        (block,) = body.blocks
        values = {**(outer or {}), **dict(zip(block.arguments, operands, strict=True))}
        self.depth += 1
        try:
            for operation in block.operations:
                op = operation.operation
                if op.name in _ENDS:
                    return [values[v] for v in op.operands]
                results = self._operation(op, values)
                values.update(zip(op.results, results, strict=True))
        finally:
            self.depth -= 1
        raise ModelFileError("a function of the module does not return")

    def _operation(self, op: Any, values: dict[Any, Value]) -> list[Value]:
        self.left -= 1
        if self.left < 0:
            raise UnsupportedOpError(f"more than {_MOST_OPERATIONS} operations once inlined")
        name = op.name.removeprefix("stablehlo.")
        where = f"{op.name} at {_source(op)}"
        try:
            outs = tuple(_type(v.type) for v in op.results)
            with self.b.at(_source(op)):
                results = self._handled(op, name, outs, values)
        except EmuronError as error:
            if " at " in str(error):
                raise
            raise UnsupportedOpError(f"{where}: {error}") from error
        for value, out in zip(results, outs, strict=True):
            if value.type != out:
                raise UnsupportedOpError(
                    f"{where}: the module gives {out} where the front end builds {value.type}"
                )
        return results

    def _handled(
        self, op: Any, name: str, outs: tuple[TensorType, ...], values: dict[Any, Value]
    ) -> list[Value]:
        if name == "constant":
            return [self._constant(op.attributes["value"], outs[0])]
        handler = TABLE.get(name)
        if handler is None:
            raise UnsupportedOpError("the StableHLO front end does not know this operator")

        def inline(body: Any, *operands: Value) -> list[Value]:
            outer = None if isinstance(body, str) else values
            made: list[Value] = self.inline(body, *operands, outer=outer)
            return made

        numbers = {
            **_STRUCTURES,
            "dimension_numbers": hlo.ConvDimensionNumbers
            if name == "convolution"
            else hlo.GatherDimensionNumbers,
        }
        call = Call(self.b, self.known, name, op.attributes, numbers, op.regions, outs, inline)
        result = handler(call, *(values[v] for v in op.operands))
        return [result] if isinstance(result, Value) else list(result)

    def _constant(self, attribute: Any, type: TensorType) -> Value:
        try:
            if attribute.is_splat:
                number = attribute.get_splat_value().value
                return self.b.full(number, type.shape, type.dtype)
            array = np.array(attribute).reshape(type.shape)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            # Formats that NumPy lacks come number by number.
            array = np.array([float(x) for x in attribute], type.dtype.np).reshape(type.shape)
        return self.known.value(narrow(array, "a constant"))


def _parsed(module: str | bytes) -> Any:
    context = make_ir_context()
    try:
        if isinstance(module, bytes):
            return hlo.deserialize_portable_artifact(context, module)
        with context:
            return ir.Module.parse(module)
    except (ValueError, RuntimeError, ir.MLIRError) as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), "")
        raise ModelFileError(f"the StableHLO does not parse: {first}") from error


def _type(found: Any) -> TensorType:
    if not isinstance(found, ir.RankedTensorType):
        raise UnsupportedOpError(f"a value of type {found}")
    if not found.has_static_shape:
        raise UnsupportedOpError(f"the type {found}: sizes must be numbers")
    name = _ELEMENTS.get(str(found.element_type))
    if name is None:
        raise UnsupportedOpError(f"elements of type {found.element_type}")
    return TensorType(tuple(found.shape), narrowed(name))


def _source(op: Any) -> str:
    """Return the first quoted name or file of an operation's location."""
    parts = str(op.location).split('"')
    files = [p for p in parts[1::2] if p.endswith(".py")]
    if files:
        line = str(op.location).partition(f'{files[0]}":')[2].partition(":")[0]
        return f"{files[0]}:{line}"
    return parts[1] if len(parts) > 1 else "an unknown place"
