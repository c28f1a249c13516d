"""PyTorch modules, through torch.export: the only frontend file that imports torch."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emuron.compiler.frontends.torch_import import GraphImporter
from emuron.compiler.graph import Graph
from emuron.compiler.passes.recognize import recognize
from emuron.errors import EmuronError, UnsupportedOpError, UsageError, missing_extra

try:
    import torch
    from torch.utils import _pytree as pytree
except ImportError as error:
    raise missing_extra(error, "Compiling a PyTorch module") or error from error

KEPT = frozenset(
    {
        *("embedding", "index_add", "index_copy", "select_scatter"),
        *("gelu", "silu", "softplus", "mish", "elu", "selu", "celu", "prelu", "log_sigmoid"),
        *("hardswish", "hardsigmoid", "relu6", "erfc"),
        *("linear", "scaled_dot_product_attention", "softmax", "log_softmax"),
        *("layer_norm", "rms_norm", "group_norm", "instance_norm"),
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d"),
        *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "_pad_circular", "roll"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d"),
        *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
        *("upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
        *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
        *("lstm", "gru", "bernoulli"),
    }
)
"""ATen operators that stay whole: the graph has an operator for each."""

_EXPORT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torch.export, the module's own code included, fails with."""

_DATA_DEPENDENT = ("GuardOnDataDependentSymNode", "DataDependentOutputException")


def to_graph(
    module: Any,
    inputs: tuple[Any, ...] | Mapping[str, Any],
    *,
    name: str | None = None,
    weights: bool = True,
) -> Graph:
    """Build the graph of a PyTorch module called with `inputs` (positional, or by name).

    Inputs are tensors or NumPy arrays of the shapes to compile for; their values matter only to
    Python code that reads them. Weights stay where the module holds them and are read when the
    graph runs; with `weights=False`, or for a module on the meta device, the graph is made of
    shapes alone. Raises UnsupportedOpError for an operator or construct that cannot be compiled,
    with the line of the module's source, and UsageError for a call that the module refuses.
    """
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"expected a torch.nn.Module, found {type(module).__name__}")
    on_meta = any(p.is_meta for p in module.parameters())
    args, kwargs = _arguments(inputs, on_meta)
    program = export(module, args, kwargs)
    return _imported(program, name or type(module).__name__, weights)


def program_to_graph(program: Any, name: str, *, weights: bool = True) -> Graph:
    """Build the graph of an ExportedProgram, as `to_graph` does of a module."""
    with torch.no_grad(), silence():
        try:
            program = program.run_decompositions(_decompositions())
        except _EXPORT_ERRORS as error:
            raise _refusal(name, error) from error
    return _imported(program, name, weights)


def _imported(program: Any, name: str, weights: bool) -> Graph:
    importer = GraphImporter(torch, program, name, with_data=weights)
    importer.import_nodes(_output_names(program))
    return recognize(importer.b.finish())


def export(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Export a module to ATen with the operators of KEPT whole; errors are as `to_graph` says."""
    with torch.no_grad(), silence():
        try:
            program = torch.export.export(module, args, kwargs, strict=False)
        except _EXPORT_ERRORS as first:
            program = _strictly(module, args, kwargs, first)
        try:
            return program.run_decompositions(_decompositions())
        except _EXPORT_ERRORS as error:
            raise _refusal(type(module).__name__, error) from error


def _strictly(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], first: Exception) -> Any:
    if isinstance(first, EmuronError):
        raise first
    if type(first).__name__ in _DATA_DEPENDENT:
        raise _refusal(type(module).__name__, first) from first
    try:
        return torch.export.export(module, args, kwargs, strict=True)
    except _EXPORT_ERRORS:
        raise _refusal(type(module).__name__, first) from first


def _decompositions() -> dict[Any, Any]:
    table = torch.export.default_decompositions()
    operators = [o for o in table if isinstance(o, torch._ops.OpOverload)]
    for operator in operators:
        if operator.namespace == "aten" and operator.__name__.partition(".")[0] in KEPT:
            table.pop(operator)
    return dict(table.items())


def _refusal(name: str, error: Exception) -> EmuronError:
    """Return the short form of what torch.export says of `name`, with the user's line."""
    text = str(error)
    where = _user_line(text) or _raised_at(error)
    at = f" at {where}" if where else ""
    if type(error).__name__ in _DATA_DEPENDENT or "Data-dependent" in text:
        return UnsupportedOpError(
            f"{name} branches on, or takes a Python number from, the values of a tensor{at}; a "
            "compiled program has one fixed path. Use torch.where, or pass the number as an "
            "argument"
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    kind = type(error).__name__
    return UsageError(f"{name} cannot be exported{at}: {kind}{': ' if first else ''}{first}")


def _user_line(text: str) -> str:
    """Return the last `file:line` outside torch that an export error names."""
    found = re.findall(r'File "([^"]+)", line (\d+)', text)
    own = [f"{file}:{line}" for file, line in found if not _is_torch(file)]
    return own[-1] if own else ""


def _raised_at(error: Exception) -> str:
    """Return the innermost line of the traceback that lies outside torch and this package."""
    found, trace = "", error.__traceback__
    package = str(Path(__file__).parent)
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not _is_torch(file) and not file.startswith(package):
            found = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _is_torch(file: str) -> bool:
    return file.startswith((str(Path(torch.__file__).parent), "<"))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep export's warnings, and the partial graph that it prints when it fails, to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _arguments(inputs: Any, on_meta: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and named arguments as tensors, each an object of its own.

    torch.export takes one tensor passed twice for one input.
    """
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        if hasattr(leaf, "__array__") and not isinstance(leaf, torch.Tensor):
            leaf = torch.as_tensor(leaf)
        if not isinstance(leaf, torch.Tensor):
            return leaf
        leaf = leaf.to("meta") if on_meta else leaf
        fresh = leaf.clone() if id(leaf) in seen else leaf
        seen.add(id(leaf))
        return fresh

    if isinstance(inputs, Mapping):
        return (), pytree.tree_map(own, dict(inputs))
    if not isinstance(inputs, tuple | list):
        inputs = (inputs,)
    return pytree.tree_map(own, tuple(inputs)), {}


def _output_names(program: Any) -> list[str]:
    """Return a name for each leaf of what the module returns: its keys, or its place."""
    spec = program.call_spec.out_spec
    count = spec.num_leaves
    labels = dict(_labels(pytree.tree_unflatten(list(range(count)), spec)))
    names = []
    for leaf in range(count):
        label = labels[leaf]
        names.append("output" if not label else f"output_{label}" if label[0].isdigit() else label)
    return names


def _labels(tree: Any, label: str = "") -> Iterator[tuple[int, str]]:
    """Yield the number of each leaf with the keys and places that lead to it."""
    if isinstance(tree, int):
        yield tree, label
        return
    if dataclasses.is_dataclass(tree) and not isinstance(tree, Mapping):
        tree = {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree)}
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree or ())
    for key, inner in pairs:
        yield from _labels(inner, f"{label}.{key}" if label else str(key))
