"""JAX functions and flax modules, through their jaxpr: the front end that imports JAX."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emuron.compiler.frontends.jax_import import JaxImporter, type_of
from emuron.compiler.frontends.known_values import narrow, narrowed
from emuron.compiler.graph import Graph, Value
from emuron.compiler.passes.recognize import recognize
from emuron.errors import EmuronError, UnsupportedOpError, UsageError, missing_extra

try:
    import jax
except ImportError as error:
    raise missing_extra(error, "Compiling a JAX function") or error from error

_TRACE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What tracing, the function's own code included, fails with."""


def to_graph(
    model: Any,
    inputs: tuple[Any, ...] | Mapping[str, Any],
    *,
    params: Any = None,
    name: str | None = None,
    weights: bool = True,
) -> Graph:
    """Build the graph of a JAX function, or of a flax module, called with `inputs`.

    Inputs, positional or by name, are arrays or ShapeDtypeStructs, or trees of them; only their
    shapes and dtypes matter. `params` is a tree that the function takes first, whose leaves become
    weights by their paths: the variables of a flax.linen module; a flax.nnx module holds its own.
    Leaves that are ShapeDtypeStructs, and all with `weights=False`, have no data: such a graph is
    made of shapes alone. Raises UnsupportedOpError for a primitive that cannot be compiled, with
    the line of the function's source, and UsageError for a call that the function refuses.
    """
    function, held = _function(model, params)
    args, kwargs = _arguments(inputs)
    label = name or str(getattr(model, "__name__", type(model).__name__))
    trees = ([] if held is None else [held], args, kwargs)
    structs, tree = jax.tree_util.tree_flatten(jax.tree_util.tree_map(_struct, trees))

    def call(*leaves: Any) -> Any:
        first, positional, named = jax.tree_util.tree_unflatten(tree, leaves)
        return function(*first, *positional, **named)

    jaxpr, shapes = _traced(label, call, structs)
    importer = JaxImporter(label, _from_stablehlo, with_data=weights)
    operands = _weights(importer, held, weights)
    operands += _inputs(importer, function, args, kwargs, 0 if held is None else 1)
    results = importer.inline(jaxpr, *operands)
    for path, value in zip(_output_names(shapes), results, strict=True):
        importer.b.output(path, value)
    return recognize(importer.b.finish())


def _function(model: Any, params: Any) -> tuple[Callable[..., Any], Any]:
    """Return a function and the tree of weights that it takes first, None if there is none."""
    kind = [f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(model).__mro__]
    if "flax.Module" not in kind:
        if not callable(model):
            raise UsageError(f"expected a JAX function, found {type(model).__name__}")
        return model, params
    if hasattr(model, "apply") and hasattr(model, "init"):
        if params is None:
            raise UsageError(
                f"the flax module {type(model).__name__} keeps its variables apart: give them as "
                "params=variables, or their shapes from jax.eval_shape(module.init, ...)"
            )
        return model.apply, params
    from flax import nnx

    definition, state = nnx.split(model)

    def call(state: Any, *args: Any, **kwargs: Any) -> Any:
        return nnx.merge(definition, state)(*args, **kwargs)

    return call, state


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def _struct(leaf: Any) -> Any:
    """Return the shape and dtype that stand for a leaf; Python numbers are scalars."""
    found = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    if "key<" in str(found.dtype):
        return jax.ShapeDtypeStruct(found.shape, found.dtype)
    return jax.ShapeDtypeStruct(tuple(found.shape), narrowed(found.dtype).np)


def _traced(name: str, call: Callable[..., Any], structs: Sequence[Any]) -> tuple[Any, Any]:
    try:
        return jax.make_jaxpr(call, return_shape=True)(*structs)  # type: ignore[no-any-return]
    except EmuronError:
        raise
    except _TRACE_ERRORS as error:
        at = _raised_at(error)
        where = f" at {at}" if at else ""
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        kind = type(error).__name__
        if "Tracer" in kind or "Concretization" in kind:
            raise UnsupportedOpError(
                f"{name} branches on, or takes a Python number from, the values of a tensor"
                f"{where}; a compiled program has one fixed path. Use jnp.where or lax.cond"
            ) from error
        raise UsageError(f"{name} cannot be traced{where}: {kind}: {first}") from error


def _raised_at(error: Exception) -> str:
    """Return the innermost line of the traceback that lies outside JAX and this package."""
    from emuron.compiler.frontends.jax_import import is_library

    found, trace = "", error.__traceback__
    package = str(Path(__file__).parent)
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not is_library(file) and not file.startswith(package):
            found = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


# Inputs, weights and outputs


def _weights(importer: JaxImporter, held: Any, with_data: bool) -> list[Value]:
    values = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(held)[0] if held is not None else ():
        name, abstract = _joined(path) or "params", isinstance(leaf, jax.ShapeDtypeStruct)
        type = type_of(_struct(leaf))
        loader = None if abstract or not with_data else partial(_read, leaf, name)
        values.append(importer.b.parameter(name, type, loader))
    return values


def _read(leaf: Any, name: str) -> np.ndarray:
    return narrow(np.asarray(leaf), f"the weight {name!r}")


def _inputs(
    importer: JaxImporter,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    skipped: int,
) -> list[Value]:
    names = _parameter_names(function, len(args) + skipped)[skipped:]
    values = []
    for name, tree in [*zip(names, args, strict=True), *sorted(kwargs.items())]:
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            label = ".".join(part for part in (name, _joined(path)) if part)
            values.append(importer.b.input(label, type_of(_struct(leaf))))
    return values


def _parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return a name for each positional argument: the function's own where it has one."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        found = []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in found if p.kind in plain][:count]
    return [*names, *(f"input_{i}" for i in range(len(names), count))]


def _joined(path: Sequence[Any]) -> str:
    """Return a path in a tree as `layers.0.kernel`."""
    parts = (str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
    return ".".join(p for p in parts if p != "value")


def _output_names(shapes: Any) -> list[str]:
    names = []
    for path, _ in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        label = _joined(path)
        names.append("output" if not label else f"output_{label}" if label[0].isdigit() else label)
    return names


# Primitives that the table lacks


def _from_stablehlo(
    importer: JaxImporter, equation: Any, operands: Sequence[Value]
) -> list[Value] | None:
    """Write one equation from the StableHLO that JAX makes of it alone."""
    from emuron.compiler.frontends.stablehlo import inline_module

    def call(*arguments: Any) -> Any:
        return equation.primitive.bind(*arguments, **equation.params)

    structs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
    try:
        exported = jax.export.export(jax.jit(call, keep_unused=True))(*structs)
    except _TRACE_ERRORS:
        return None
    return inline_module(importer.b, importer.known, exported.mlir_module(), operands)
