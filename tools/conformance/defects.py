"""What nki-library's harness lacks or has wrong outside of AWS, and what stands in for it.

Each entry is a defect of the public repository at the commit named in `REVISION`, with its reason;
nothing of a test's inputs, references or tolerances is touched. `make conformance` prints the list.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import MappingProxyType, ModuleType
from typing import Any

from tools.conformance import host_locks

REVISION = "d2ad3a5"

ALIASED = ".must_alias_input"
"""The suffix of an input's name that tells AWS's graph compiler that the kernel writes to it."""


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect, why it keeps tests from running, and what removes it."""

    name: str
    reason: str
    apply: Callable[[], None]


def _private_module(name: str, **names: Any) -> Callable[[], None]:
    def apply() -> None:
        module = ModuleType(name)
        vars(module).update(names)
        sys.modules[name] = module

    return apply


def _experimental_subkernels() -> None:
    name = "nkilib_src.nkilib.experimental.subkernels"

    def kernel(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        module = importlib.import_module(f"nkilib_src.nkilib.core.subkernels.{attribute}")
        return getattr(module, attribute)

    _private_module(
        name, __path__=[], __spec__=ModuleSpec(name, None, is_package=True), __getattr__=kernel
    )()


def _host_locks() -> None:
    scripts = "test.utils.scripts"
    _private_module(scripts, __path__=[])()
    sys.modules[f"{scripts}.remote_lock_scripts"] = host_locks


class _Renamed(MetaPathFinder):
    """Finds modules under a name that the public repository does not have."""

    def __init__(self, wrong: str, right: str) -> None:
        self.wrong, self.right = wrong, right

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.wrong and not fullname.startswith(f"{self.wrong}."):
            return None
        right = self.right + fullname.removeprefix(self.wrong)
        if importlib.util.find_spec(right) is None:
            return None
        return ModuleSpec(fullname, _Alias(right), is_package=True)


class _Alias(Loader):
    def __init__(self, name: str) -> None:
        self.name = name

    def exec_module(self, module: ModuleType) -> None:
        """Let the module's name stand for the module it is an alias of."""
        sys.modules[module.__name__] = importlib.import_module(self.name)


def _alias(wrong: str, right: str) -> Callable[[], None]:
    return lambda: sys.meta_path.insert(0, _Renamed(wrong, right))


class _Mended(SourceFileLoader):
    """Loads `core/mlp/mlp.py` without the repeated end of its docstring."""

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        return without_repeated_docstring(data.decode()).encode() if path.endswith(".py") else data

    def path_stats(self, path: str) -> Any:
        """Refuse a cached compilation, which would be of the file as it stands."""
        raise OSError(f"{path} is compiled from mended source")


class _MendedFinder(MetaPathFinder):
    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, found.origin, loader=_Mended(fullname, found.origin)
        )


def without_repeated_docstring(source: str) -> str:
    """Return source whose function docstring is followed by its own tail a second time, without
    the repetition; source that compiles comes back as it is.
    """
    try:
        compile(source, "mlp.py", "exec")
    except SyntaxError as error:
        lines = source.splitlines(keepends=True)
        at = (error.lineno or 1) - 1
        ends = [i for i, line in enumerate(lines) if line.strip() == '"""']
        before = max(i for i in ends if i < at)
        after = min(i for i in ends if i >= at)
        return "".join(lines[: before + 1] + lines[after + 1 :])
    return source


def _no_compiled_kernel() -> None:
    orchestrator = importlib.import_module("test.utils.test_orchestrator")
    orchestrator.Orchestrator._compiled_kernel = None


class _Inputs(dict[str, Any]):
    """Kernel inputs in which a name also finds the input that carries the suffix of aliases."""

    def __missing__(self, name: str) -> Any:
        return self[f"{name}{ALIASED}"] if not name.endswith(ALIASED) else dict(self)[name]


def _outputs_find_aliased_inputs() -> None:
    framework = importlib.import_module("test.utils.unit_test_framework").UnitTestFramework
    original = framework.run_test

    def run_test(self: Any, *args: Any, **named: Any) -> Any:
        describe = self.output_tensor_descriptor
        self.output_tensor_descriptor = lambda given: describe(_Inputs(given))
        return original(self, *args, **named)

    framework.run_test = run_test


BEFORE_COLLECTION = (
    Defect(
        "test.utils.perf_analysis_private",
        "A module of AWS that is not in the repository, imported by test_orchestrator.",
        _private_module("test.utils.perf_analysis_private", analyze_trace=lambda **_: None),
    ),
    Defect(
        "test.utils.scripts.remote_lock_scripts",
        "A module of AWS that is not in the repository: answers of hardware hosts.",
        _host_locks,
    ),
    Defect(
        "nkilib",
        "The library imports itself by the name it has when installed.",
        _alias("nkilib", "nkilib_src.nkilib"),
    ),
    Defect(
        "core/mlp/mlp.py",
        "A syntax error: the end of a docstring is there twice.",
        lambda: sys.meta_path.insert(0, _MendedFinder("nkilib_src.nkilib.core.mlp.mlp")),
    ),
    Defect(
        "experimental.subkernels",
        "A package that is not in the repository; its kernels lie under core.subkernels.",
        _experimental_subkernels,
    ),
    Defect(
        "experimental.subkernels.topk_reduce",
        "Imported from a folder that does not have it; it lies under experimental.collectives.",
        _alias(
            "nkilib_src.nkilib.experimental.subkernels.topk_reduce",
            "nkilib_src.nkilib.experimental.collectives.topk_reduce",
        ),
    ),
)
"""Defects that keep the harness from being imported."""

AFTER_IMPORT = (
    Defect(
        "Orchestrator._compiled_kernel",
        "Read in simulation mode too, but set by the compiling modes alone.",
        _no_compiled_kernel,
    ),
    Defect(
        "test_gen_mask_tkg",
        "Describes its output by the input mask_out_hbm, which its generator names "
        "mask_out_hbm.must_alias_input.",
        _outputs_find_aliased_inputs,
    ),
)
"""Defects of modules of the harness, removed once they are imported."""

REPLACED = (
    Defect(
        "Orchestrator._run_simulator_inference",
        "Simulates one rank only, although inputs may differ between ranks; and converts packed "
        "results to the dtype that a test reads their bytes as.",
        lambda: None,
    ),
    Defect(
        "numpy.random",
        "Draws a billion numbers for inputs of cases that are only timed; larger arrays than an "
        "executed case may have stay zero.",
        lambda: None,
    ),
)
"""What the plugin itself replaces."""

DEFECTS = (*BEFORE_COLLECTION, *AFTER_IMPORT, *REPLACED)

CANNOT_PASS: Mapping[str, str] = MappingProxyType(
    {
        "unit/test_file_classifier.py": "It tests a build tool that is not in the repository.",
        "unit/test_init_files_exist.py::test_all_nkilib_directories_have_init_files": "The "
        "repository's test/integration/nkilib/experimental/subkernels has no __init__.py.",
        "unit/test_ruff_format.py::test_ruff_format_check": "It formats the repository with a "
        "pinned ruff, to which core/mlp/mlp.py does not parse.",
        "unit/test_ruff_format.py::test_ruff_check": "It lints the repository with a pinned ruff, "
        "to which core/mlp/mlp.py does not parse and rotational_topk_utils has an unused import.",
        "integration/nkilib/core/max/test_cascaded_max_utils.py::TestCascadedMaxUtils::"
        "test_folded_load_store_dst_batch[lnc-2": "Its cores race: each sets all of the output to "
        "zero before it stores its own rows, and nothing orders that after the other's store.",
    }
)
"""Tests, by how their names begin, that fail by the repository's own fault, and why."""


def why_it_cannot_pass(node: str) -> str | None:
    """Return why a test fails by the repository's own fault; None for any other test."""
    found = (why for start, why in CANNOT_PASS.items() if node.startswith(start))
    return next(found, None)
