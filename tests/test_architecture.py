"""The house rules that a machine can check: floors, sizes, names, docstrings and imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "emuron"
TESTS = ROOT / "tests"

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 40
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
FRAMEWORKS = {"diffusers", "torch", "jax", "jaxlib", "onnx", "tensorflow", "mxnet", "transformers"}
FILES_THAT_MAY_IMPORT_A_FRAMEWORK = (
    "compat/torch_xla.py",
    "compiler/frontends/*.py",
    "numerics/torch_backend.py",
    "numerics/torch_matmul.py",
    "serving/runner.py",
)
TEST_FOLDERS_WITHOUT_A_PACKAGE = {
    *("calibration", "conformance", "golden", "illegal", "journeys", "properties"),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _sources(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*.py") if "__pycache__" not in path.parts)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _place(path: Path, node: ast.stmt | None = None) -> str:
    name = path.relative_to(ROOT).as_posix()
    return name if node is None else f"{name}:{node.lineno} {getattr(node, 'name', '')}".rstrip()


def _lines_without_docstring(function: Function) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def _imported_modules(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module


def test_imports_go_only_downwards(monkeypatch):
    monkeypatch.chdir(ROOT)
    # import-linter puts the working directory on the path for good.
    monkeypatch.setattr(sys, "path", list(sys.path))
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS


def test_no_file_is_longer_than_the_limit():
    sizes = {
        _place(path): len(path.read_text(encoding="utf-8").splitlines())
        for top in (PACKAGE, TESTS)
        for path in _sources(top)
    }
    assert {place: lines for place, lines in sizes.items() if lines > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_longer_than_the_limit():
    too_long = [
        f"{_place(path, node)}: {_lines_without_docstring(node)} lines"
        for top in (PACKAGE, TESTS)
        for path in _sources(top)
        for node in ast.walk(_tree(path))
        if isinstance(node, Function) and _lines_without_docstring(node) > MOST_LINES_OF_A_FUNCTION
    ]
    assert too_long == []


def test_every_module_and_public_class_and_function_is_documented():
    undocumented = []
    for path in _sources(PACKAGE):
        tree = _tree(path)
        if ast.get_docstring(tree) is None:
            undocumented.append(_place(path))
        undocumented += [
            _place(path, node)
            for node in tree.body
            if isinstance(node, ast.ClassDef | Function)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ]
    assert undocumented == []


def test_frameworks_are_imported_only_in_their_own_files():
    strays = [
        f"{_place(path)}:{node.lineno} imports {module}"
        for path in _sources(PACKAGE)
        if not any(
            fnmatch(path.relative_to(PACKAGE).as_posix(), allowed)
            for allowed in FILES_THAT_MAY_IMPORT_A_FRAMEWORK
        )
        for node, module in _imported_modules(_tree(path))
        if module.partition(".")[0] in FRAMEWORKS
    ]
    assert strays == []


def test_no_module_has_a_name_that_says_nothing():
    nameless = [
        _place(path)
        for path in PACKAGE.rglob("*")
        if path.stem in FORBIDDEN_NAMES and (path.is_dir() or path.suffix == ".py")
    ]
    assert nameless == []


def test_tests_mirror_the_packages():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    written = {
        package
        for package in packages
        if any(path.name != "__init__.py" for path in _sources(PACKAGE / package))
    }
    tested = {path.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/test_*.py")}
    assert written - tested == set(), "packages without tests"
    assert tested - packages - TEST_FOLDERS_WITHOUT_A_PACKAGE == set(), "tests of no package"
