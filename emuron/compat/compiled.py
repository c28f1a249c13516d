"""Compiled kernels: recorded without data, timed, and kept in a file.

The file (`.neff` by its users' habit, though it is not AWS's format) is a zip archive: a manifest
with shapes and the predicted time, each core's program as text for people, and the programs.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import emuron
from emuron.errors import ModelFileError, UsageError
from emuron.hardware.catalog import chip as find_chip
from emuron.isa.program import Program
from emuron.isa.tensor import Tensor
from emuron.nki.launch import timed
from emuron.nki.recording import Recording
from emuron.nki.tensor import NkiTensor

FORMAT = 1
MANIFEST, PROGRAMS = "manifest.json", "programs.pickle"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a compiled kernel."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What compile calls are given; `neuronx_cc_args` are accepted and have no effect."""

    target: str | None = None
    lnc: int = 1
    output_path: str | None = None
    artifacts_dir: str | None = None
    neuronx_cc_args: Sequence[str] = ()

    def disable_backend_optimizations(self) -> CompileOptions:
        """Return the options: instructions run in the order in which the kernel writes them."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class TracedKernel:
    """A kernel recorded without data, as a frontend returns it."""

    name: str
    recording: Recording
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    aliases: Mapping[int, str]

    @classmethod
    def of(
        cls, name: str, recording: Recording, output_names: Sequence[str] | None
    ) -> TracedKernel:
        """Describe a recording; `output_names` name what the kernel returns, in order.

        The tensors that the kernel made take these names, in the program's text too.
        """
        views = _views(recording.returned)
        names = list(output_names or [view.tensor.name for view in views])
        if len(names) != len(views):
            raise UsageError(
                f"{name} returns {len(views)} tensors, but {len(names)} output names were given: "
                f"{', '.join(names)}."
            )
        outputs = tuple(
            TensorSpec(output, tuple(view.shape), str(view.dtype))
            for output, view in zip(names, views, strict=True)
        )
        for output, view in zip(names, views, strict=True):
            if view.tensor.role != "input":
                view.tensor.name = output
        aliases = {i: v.tensor.name for i, v in enumerate(views) if v.tensor.role == "input"}
        inputs = tuple(_spec(t) for t in _inputs(recording.programs))
        return cls(name, recording, inputs, outputs, aliases)

    @property
    def module(self) -> TracedKernel:
        """The kernel itself, for callers that look for a module's operation."""
        return self

    operation = module

    def print(self, file: TextIO | None = None, **options: object) -> None:
        """Write the program of each core as text."""
        print(self.to_text(), file=file, end="")

    def to_text(self) -> str:
        """Return the program of each core as text."""
        return "".join(program.to_text() for program in self.recording.programs)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledKernel:
    """A compiled kernel in its file.

    `output_specs` are pairs of name and spec; `input_output_aliases` names, for an output's number,
    the input that it is.
    """

    neff_path: str
    name: str
    target: str
    instructions: int
    total_ps: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_output_aliases: Mapping[int, str]
    programs: tuple[Program, ...]

    @property
    def output_specs(self) -> list[tuple[str, TensorSpec]]:
        """Each output's name and spec."""
        return [(spec.name, spec) for spec in self.outputs]

    @classmethod
    def from_frontend(cls, traced: TracedKernel, options: CompileOptions) -> CompiledKernel:
        """Place and time a traced kernel and write its file; raises CapacityError if too large."""
        recording = traced.recording
        timing = timed(recording, collect=False).timing
        path = Path(options.output_path or f"{traced.name}.neff")
        path.parent.mkdir(parents=True, exist_ok=True)
        compiled = cls(
            str(path),
            traced.name,
            recording.chip.name,
            timing.instructions,
            timing.total_ps,
            traced.inputs,
            traced.outputs,
            traced.aliases,
            recording.programs,
        )
        compiled._write(path)
        return compiled

    @classmethod
    def load(cls, path: str | Path) -> CompiledKernel:
        """Read a compiled kernel; raises ModelFileError for a file that is none or of a newer
        format.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                manifest = json.loads(archive.read(MANIFEST))
                stored = archive.read(PROGRAMS)
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ModelFileError(f"{path} is no kernel compiled by emuron: {error}.") from error
        if manifest.get("format") != FORMAT or manifest.get("emuron") != emuron.__version__:
            raise ModelFileError(
                f"{path} was compiled by emuron {manifest.get('emuron')}, this is "
                f"{emuron.__version__}. Compile the kernel again."
            )
        find_chip(manifest["target"])
        specs = {
            kind: tuple(
                TensorSpec(s["name"], tuple(s["shape"]), s["dtype"]) for s in manifest[kind]
            )
            for kind in ("inputs", "outputs")
        }
        return cls(
            str(path),
            manifest["kernel"],
            manifest["target"],
            manifest["instructions"],
            manifest["total_ps"],
            specs["inputs"],
            specs["outputs"],
            {int(k): v for k, v in manifest["aliases"].items()},
            _read_programs(stored, path),
        )

    def _write(self, path: Path) -> None:
        manifest = {
            "format": FORMAT,
            "emuron": emuron.__version__,
            "kernel": self.name,
            "target": self.target,
            "cores": len(self.programs),
            "instructions": self.instructions,
            "total_ps": self.total_ps,
            "inputs": [_record(spec) for spec in self.inputs],
            "outputs": [_record(spec) for spec in self.outputs],
            "aliases": {str(k): v for k, v in self.input_output_aliases.items()},
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
            for core, program in enumerate(self.programs):
                archive.writestr(f"core{core}.txt", program.to_text())
            archive.writestr(PROGRAMS, pickle.dumps(self.programs))


_PLAIN = frozenset(
    {("array", "_array_reconstructor"), ("array", "array"), ("builtins", "str")}
    | {("emuron.numerics.dtypes", "dtype")}
)


class _OwnClasses(pickle.Unpickler):
    """Reads what programs are made of and nothing else: the file may be anybody's."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class of the floors that describe programs; raise UnpicklingError for others."""
        floor = ".".join(module.split(".")[:2])
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        if floor in ("emuron.hardware", "emuron.isa") or module == "emuron.nki.enums":
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a compiled kernel")


def _read_programs(stored: bytes, path: str | Path) -> tuple[Program, ...]:
    try:
        programs: tuple[Program, ...] = _OwnClasses(io.BytesIO(stored)).load()
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged: {error}. Compile the kernel again.") from error
    return programs


def _views(returned: Any) -> list[NkiTensor]:
    if isinstance(returned, list | tuple):
        return [view for item in returned for view in _views(item)]
    return [returned] if isinstance(returned, NkiTensor) else []


def _inputs(programs: Sequence[Program]) -> list[Tensor]:
    found = {id(t): t for program in programs for t in program.tensors if t.role == "input"}
    return list(found.values())


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(tensor.name, tuple(tensor.shape), str(tensor.dtype))


def _record(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}
