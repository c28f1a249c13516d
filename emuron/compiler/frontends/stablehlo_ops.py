"""The operators of StableHLO, and those of CHLO that JAX leaves in it."""

from __future__ import annotations

from emuron.compiler.frontends import recipes, xla
from emuron.compiler.frontends.stablehlo_call import Call, stablehlo
from emuron.compiler.graph import Value
from emuron.compiler.ops.creation import Iota
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_

_FUNCTIONS = {
    "ceil": "ceil",
    "cosine": "cos",
    "exponential": "exp",
    "exponential_minus_one": "expm1",
    "floor": "floor",
    "is_finite": "isfinite",
    "log": "log",
    "log_plus_one": "log1p",
    "logistic": "sigmoid",
    "round_nearest_even": "round",
    "rsqrt": "rsqrt",
    "sign": "sign",
    "sine": "sin",
    "sqrt": "sqrt",
    "tan": "tan",
    "tanh": "tanh",
    **{
        f"chlo.{n}": n
        for n in (
            "acos",
            "acosh",
            "asin",
            "asinh",
            "atan",
            "atanh",
            "cosh",
            "erf",
            "erfc",
            "sinh",
            "tan",
        )
    },
}
_BINARY = {
    "add": "add",
    "atan2": "atan2",
    "divide": "div",
    "maximum": "max",
    "minimum": "min",
    "multiply": "mul",
    "power": "pow",
    "remainder": "rem",
    "shift_left": "shl",
    "shift_right_arithmetic": "shr",
    "shift_right_logical": "shr",
    "subtract": "sub",
}
_REDUCTIONS = {
    "add": "sum",
    "and": "all",
    "maximum": "max",
    "minimum": "min",
    "multiply": "prod",
    "or": "any",
}
_COMBINERS = {
    "return": "set",
    "add": "add",
    "maximum": "max",
    "minimum": "min",
    "multiply": "mul",
}


def _function(source: str, name: str) -> None:
    @stablehlo(source)
    def apply(c: Call, x: Value) -> Value:
        return c.b.apply(name, x)


def _binary(source: str, name: str) -> None:
    @stablehlo(source)
    def apply(c: Call, x: Value, y: Value) -> Value:
        return c.b.binary(recipes.make(name), x, y)


for _source, _name in _FUNCTIONS.items():
    _function(_source, _name)
for _source, _name in _BINARY.items():
    _binary(_source, _name)


@stablehlo("optimization_barrier")
def _same(c: Call, *operands: Value) -> list[Value]:
    return list(operands)


@stablehlo("abs", "negate")
def _sign(c: Call, x: Value) -> Value:
    if x.type.dtype.kind == "float":
        return c.b.apply("abs" if c.name == "abs" else "neg", x)
    turned = c.b.mul(x, -1)
    return c.b.maximum(x, turned) if c.name == "abs" else turned


@stablehlo("chlo.square")
def _square(c: Call, x: Value) -> Value:
    return c.b.mul(x, x)


@stablehlo("and", "or", "xor")
def _logical(c: Call, x: Value, y: Value) -> Value:
    return xla.logical(c.b, c.name, x, y)


@stablehlo("not")
def _not(c: Call, x: Value) -> Value:
    return c.b.apply("logical_not" if x.type.dtype == bool_ else "bitwise_not", x)


@stablehlo("compare")
def _compare(c: Call, x: Value, y: Value) -> Value:
    return c.b.compare(c.text("comparison_direction").lower(), x, y)


@stablehlo("select")
def _select(c: Call, condition: Value, x: Value, y: Value) -> Value:
    return c.b.select(condition, x, y)


@stablehlo("clamp")
def _clamp(c: Call, low: Value, x: Value, high: Value) -> Value:
    return xla.clamp(c.b, low, x, high)


@stablehlo("convert")
def _convert(c: Call, x: Value) -> Value:
    return recipes.convert(c.b, x, c.out.dtype)


@stablehlo("bitcast_convert")
def _bitcast(c: Call, x: Value) -> Value:
    return c.b.bitcast(x, c.out.dtype)


# Shapes


@stablehlo("reshape")
def _reshape(c: Call, x: Value) -> Value:
    return c.b.reshape(x, *c.out.shape)


@stablehlo("transpose")
def _transpose(c: Call, x: Value) -> Value:
    return c.b.permute(x, *c.integers("permutation"))


@stablehlo("broadcast_in_dim")
def _broadcast_in_dim(c: Call, x: Value) -> Value:
    return xla.broadcast_in_dim(c.b, x, c.out.shape, c.integers("broadcast_dimensions"))


@stablehlo("concatenate")
def _concatenate(c: Call, *parts: Value) -> Value:
    return c.b.concat(parts, c.integer("dimension"))


@stablehlo("slice")
def _slice(c: Call, x: Value) -> Value:
    bounds = zip(
        *(c.integers(f"{n}") for n in ("start_indices", "limit_indices", "strides")), strict=True
    )
    for axis, (start, stop, step) in enumerate(bounds):
        if (start, stop, step) != (0, x.shape[axis], 1):
            x = c.b.slice(x, axis, start, stop, step)
    return x


@stablehlo("pad")
def _pad(c: Call, x: Value, fill: Value) -> Value:
    number = c.known.array(fill)
    if number is None:
        raise UnsupportedOpError("padding with a number that is data")
    low, high, inner = (
        c.integers(n) for n in ("edge_padding_low", "edge_padding_high", "interior_padding")
    )
    return xla.pad(c.b, x, float(number), list(zip(low, high, inner, strict=True)))


@stablehlo("reverse")
def _reverse(c: Call, x: Value) -> Value:
    return c.b.reverse(x, c.integers("dimensions"))


@stablehlo("iota")
def _iota(c: Call) -> Value:
    return c.b.one(Iota(c.out.shape, c.integer("iota_dimension"), c.out.dtype))


@stablehlo("dynamic_slice")
def _dynamic_slice(c: Call, x: Value, *starts: Value) -> Value:
    return xla.dynamic_slice(c.b, c.known, x, starts, c.integers("slice_sizes"))


@stablehlo("dynamic_update_slice")
def _dynamic_update_slice(c: Call, x: Value, update: Value, *starts: Value) -> Value:
    return xla.dynamic_update_slice(c.b, x, update, starts)


# Places, products, windows


@stablehlo("gather")
def _gather(c: Call, x: Value, index: Value) -> Value:
    numbers = c.structure("dimension_numbers")
    spec = xla.GatherSpec(
        tuple(numbers.offset_dims),
        tuple(numbers.collapsed_slice_dims),
        tuple(numbers.start_index_map),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.start_indices_batching_dims),
        numbers.index_vector_dim,
    )
    return xla.gather(c.b, x, index, spec, c.integers("slice_sizes"), clamped=True)


@stablehlo("scatter")
def _scatter(c: Call, x: Value, index: Value, update: Value) -> Value:
    numbers = c.structure("scatter_dimension_numbers")
    spec = xla.GatherSpec(
        tuple(numbers.update_window_dims),
        tuple(numbers.inserted_window_dims),
        tuple(numbers.scattered_dims_to_operand_dims),
        tuple(numbers.input_batching_dims),
        tuple(numbers.scatter_indices_batching_dims),
        numbers.index_vector_dim,
    )
    return xla.scatter(c.b, x, index, update, spec, c.combiner(_COMBINERS))


@stablehlo("dot_general")
def _dot_general(c: Call, x: Value, y: Value) -> Value:
    numbers = c.structure("dot_dimension_numbers")
    contract = (numbers.lhs_contracting_dimensions, numbers.rhs_contracting_dimensions)
    batch = (numbers.lhs_batching_dimensions, numbers.rhs_batching_dimensions)
    return xla.dot_general(c.b, x, y, contract, batch, c.out.dtype)


@stablehlo("convolution")
def _convolution(c: Call, x: Value, kernel: Value) -> Value:
    if c.integer("batch_group_count", 1) != 1:
        raise UnsupportedOpError("a convolution in groups of the batch")
    n = c.structure("dimension_numbers")
    spec = xla.ConvSpec(
        (n.input_batch_dimension, n.input_feature_dimension, *n.input_spatial_dimensions),
        (
            n.kernel_output_feature_dimension,
            n.kernel_input_feature_dimension,
            *n.kernel_spatial_dimensions,
        ),
        (n.output_batch_dimension, n.output_feature_dimension, *n.output_spatial_dimensions),
    )
    count = x.type.rank - 2
    ones = (1,) * count
    return xla.convolution(
        c.b,
        x,
        kernel,
        spec,
        stride=c.integers("window_strides", ones),
        padding=c.pairs("padding", count),
        lhs_dilation=c.integers("lhs_dilation", ones),
        rhs_dilation=c.integers("rhs_dilation", ones),
        groups=c.integer("feature_group_count", 1),
    )


@stablehlo("reduce_window")
def _reduce_window(c: Call, x: Value, start: Value) -> Value:
    ones = (1,) * x.type.rank
    if c.integers("base_dilations", ones) != list(ones):
        raise UnsupportedOpError("windows over a dilated tensor")
    return xla.reduce_window(
        c.b,
        c.combiner(_REDUCTIONS),
        x,
        c.integers("window_dimensions"),
        c.integers("window_strides", ones),
        c.pairs("padding", x.type.rank),
        c.integers("window_dilations", ones),
    )


# Reductions and order


@stablehlo("reduce")
def _reduce(c: Call, *operands: Value) -> list[Value]:
    axes = c.integers("dimensions")
    if len(operands) == 2:
        # The start is the neutral element in what frameworks write; another joins the result.
        kind = c.combiner(_REDUCTIONS)
        made = recipes.reduce(c.b, kind, operands[0], axes)
        return [_with_start(c, kind, made, operands[1])]
    compared = [op.operation for op in c.regions[0].blocks[0].operations]
    first = next((o for o in compared if o.name == "stablehlo.compare"), None)
    if len(operands) != 4 or len(axes) != 1 or first is None:
        raise UnsupportedOpError(f"a reduction of {len(operands) // 2} tensors together")
    direction = str(first.attributes["comparison_direction"])
    kind = "max" if " G" in direction else "min"
    values = recipes.reduce(c.b, kind, operands[0], axes)
    places = c.b.one(recipes.make("argreduce", kind, axes[0]), operands[0])
    return [values, c.b.cast(places, c.outs[1].dtype)]


_STARTS = {"sum": 0.0, "prod": 1.0, "all": 1.0, "any": 0.0}
_JOINED = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "all": "min", "any": "max"}


def _with_start(c: Call, kind: str, made: Value, start: Value) -> Value:
    number = c.known.array(start)
    if number is not None and kind in _STARTS and float(number) == _STARTS[kind]:
        return made
    if number is not None and kind in ("max", "min") and _is_lowest(float(number), kind, start):
        return made
    return c.b.binary(recipes.make(_JOINED[kind]), made, start)


def _is_lowest(number: float, kind: str, start: Value) -> bool:
    dtype = start.type.dtype
    infinite = float("-inf") if kind == "max" else float("inf")
    return number == (
        infinite if dtype.kind == "float" else dtype.min if kind == "max" else dtype.max
    )


@stablehlo("chlo.top_k")
def _top_k(c: Call, x: Value) -> list[Value]:
    return list(c.b.append(recipes.make("topk", c.integer("k")), x))


@stablehlo("sort")
def _sort(c: Call, *operands: Value) -> list[Value]:
    compared = [
        str(op.operation.attributes["comparison_direction"])
        for op in c.regions[0].blocks[0].operations
        if op.operation.name == "stablehlo.compare"
    ]
    directions = {d for d in compared if " EQ" not in d and " NE" not in d}
    if len(directions) != 1:
        raise UnsupportedOpError("a sort by more than one comparison")
    axis, descending = c.integer("dimension"), " G" in directions.pop()
    values, places = c.b.append(recipes.make("sort", axis, descending), operands[0])
    return [values, *(c.b.gather_along(v, places, axis) for v in operands[1:])]
