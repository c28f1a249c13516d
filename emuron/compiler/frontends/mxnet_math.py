"""MXNet operators that compute element by element, and reductions."""

from __future__ import annotations

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.mxnet_call import Call, Operand, mxnet
from emuron.compiler.graph import Value
from emuron.compiler.ops import find_op
from emuron.compiler.ops.reduction import ArgReduce
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import float32

_FUNCTIONS = (
    "abs arccos:acos arccosh:acosh arcsin:asin arcsinh:asinh arctan:atan arctanh:atanh ceil cos "
    "cosh erf exp expm1 floor log log1p negative:neg reciprocal relu rint:round rsqrt sigmoid sign "
    "sin sinh sqrt tan tanh"
)
_BINARY = "add sub mul div mod power:pow maximum:max minimum:min"
_RELATIONS = "equal:eq not_equal:ne lesser:lt lesser_equal:le greater:gt greater_equal:ge"
_ALIASES = {
    "add": ("broadcast_plus", "_plus", "_Plus", "_grad_add"),
    "sub": ("broadcast_minus", "_minus", "_Minus"),
    "mul": ("_mul", "_Mul"),
    "div": ("_div", "_Div"),
    "power": ("_power", "_Power"),
    "maximum": ("_maximum", "_Maximum"),
    "minimum": ("_minimum", "_Minimum"),
}
_SCALARS = {
    "_plus_scalar": ("add", False),
    "_PlusScalar": ("add", False),
    "__add_scalar__": ("add", False),
    "_minus_scalar": ("sub", False),
    "_MinusScalar": ("sub", False),
    "__sub_scalar__": ("sub", False),
    "_rminus_scalar": ("sub", True),
    "_RMinusScalar": ("sub", True),
    "__rsub_scalar__": ("sub", True),
    "_mul_scalar": ("mul", False),
    "_MulScalar": ("mul", False),
    "__mul_scalar__": ("mul", False),
    "_div_scalar": ("div", False),
    "_DivScalar": ("div", False),
    "__div_scalar__": ("div", False),
    "_rdiv_scalar": ("div", True),
    "_RDivScalar": ("div", True),
    "__rdiv_scalar__": ("div", True),
    "_power_scalar": ("pow", False),
    "_PowerScalar": ("pow", False),
    "__pow_scalar__": ("pow", False),
    "_rpower_scalar": ("pow", True),
    "_mod_scalar": ("mod", False),
    "_maximum_scalar": ("max", False),
    "_minimum_scalar": ("min", False),
    "_equal_scalar": ("eq", False),
    "_not_equal_scalar": ("ne", False),
    "_lesser_scalar": ("lt", False),
    "_lesser_equal_scalar": ("le", False),
    "_greater_scalar": ("gt", False),
    "_greater_equal_scalar": ("ge", False),
}


def _pairs(listed: str) -> list[tuple[str, str]]:
    """Return (MXNet's name, ours) of `a:b c`, where c has one name."""
    parts = (item.partition(":") for item in listed.split())
    return [(source, name or source) for source, _, name in parts]


def _compared(c: Call, truth: Value, like: Value) -> Value:
    """Return a comparison as MXNet has it: 1 and 0 in the operands' dtype."""
    return c.b.cast(truth, like.type.dtype)


def _function(source: str, name: str) -> None:
    @mxnet(source)
    def apply(c: Call, x: Operand) -> Value:
        return c.b.apply(name, c.value(x))


def _binary(source: str, name: str) -> None:
    elementwise = (f"elemwise_{source}",) if source in ("add", "sub", "mul", "div") else ()

    @mxnet(f"broadcast_{source}", *elementwise, *_ALIASES.get(source, ()))
    def apply(c: Call, x: Operand, y: Operand) -> Value:
        return c.b.binary(find_op(name)(), *c.values(x, y))


def _relation(source: str, name: str) -> None:
    @mxnet(f"broadcast_{source}", f"_{source}")
    def apply(c: Call, x: Operand, y: Operand) -> Value:
        left, right = c.values(x, y)
        return _compared(c, c.b.compare(name, left, right), left)


for _source, _name in _pairs(_FUNCTIONS):
    _function(_source, _name)
for _source, _name in _pairs(_BINARY):
    _binary(_source, _name)
for _source, _name in _pairs(_RELATIONS):
    _relation(_source, _name)


@mxnet(*_SCALARS)
def _scalar(c: Call, x: Operand) -> Value:
    name, turned = _SCALARS[c.op]
    value, number = c.value(x), c.number("scalar")
    if name == "pow" and not turned and number == 2:
        return c.b.mul(value, value)
    operands = (number, value) if turned else (value, number)
    found = c.b.binary(find_op(name)(), *operands)
    return _compared(c, found, value)


@mxnet("add_n", "ElementWiseSum", "_sum")
def _add_n(c: Call, *operands: Operand) -> Value:
    first, *others = c.values(*operands)
    for other in others:
        first = c.b.add(first, other)
    return first


@mxnet("square")
def _square(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.mul(value, value)


@mxnet("softsign")
def _softsign(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.div(value, c.b.add(c.b.apply("abs", value), 1))


@mxnet("logical_not")
def _logical_not(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return _compared(c, c.b.compare("eq", value, 0), value)


@mxnet("broadcast_logical_and", "broadcast_logical_or", "broadcast_logical_xor")
def _logical(c: Call, x: Operand, y: Operand) -> Value:
    left, right = c.values(x, y)
    name = {"and": "min", "_or": "max", "xor": "ne"}[c.op[-3:]]
    truths = (c.b.compare("ne", v, 0) for v in (left, right))
    return _compared(c, c.b.binary(find_op(name)(), *truths), left)


@mxnet("clip")
def _clip(c: Call, x: Operand) -> Value:
    return recipes.clamp(c.b, c.value(x), c.number("a_min"), c.number("a_max"))


@mxnet("hard_sigmoid")
def _hard_sigmoid(c: Call, x: Operand) -> Value:
    scaled = c.b.mul(c.value(x), c.number("alpha", 0.2))
    return recipes.clamp(c.b, c.b.add(scaled, c.number("beta", 0.5)), 0, 1)


@mxnet("smooth_l1")
def _smooth_l1(c: Call, x: Operand) -> Value:
    b, value, square = c.b, c.value(x), c.number("scalar", 1) ** 2
    size = b.apply("abs", value)
    inner = b.mul(b.mul(value, value), 0.5 * square)
    return b.select(b.compare("lt", size, 1 / square), inner, b.sub(size, 0.5 / square))


@mxnet("where")
def _where(c: Call, condition: Operand, x: Operand, y: Operand) -> Value:
    truth, left, right = c.values(condition, x, y)
    truth = c.b.compare("ne", truth, 0)
    if truth.type.rank == 1 and left.type.rank > 1:
        truth = c.b.broadcast(truth, left.shape, (0,))
    return c.b.select(truth, left, right)


@mxnet("Cast", "cast", "amp_cast")
def _cast(c: Call, x: Operand) -> Value:
    return recipes.convert(c.b, c.value(x), c.dtype("dtype"))


@mxnet("amp_multicast")
def _multicast(c: Call, *operands: Operand) -> list[Value]:
    values = c.values(*operands)
    narrow = c.flag("cast_narrow")
    widths = sorted((v.type.dtype for v in values), key=lambda d: d.itemsize, reverse=not narrow)
    return [c.b.cast(v, widths[0]) for v in values]


# Reductions

_REDUCTIONS = {"sum_axis": "sum", "max_axis": "max", "min_axis": "min"}


@mxnet("sum", "mean", "max", "min", "prod", *_REDUCTIONS)
def _reduce(c: Call, x: Operand) -> Value:
    value = c.value(x)
    axes = c.axes(value.type.rank)
    if c.flag("exclude"):
        axes = tuple(i for i in range(value.type.rank) if i not in axes)
    kind = _REDUCTIONS.get(c.op, c.op)
    found = recipes.reduce(c.b, kind, value, axes, keepdims=c.flag("keepdims"))
    # MXNet's NDArrays have one dimension at least.
    return found if found.type.rank else c.b.reshape(found, 1)


@mxnet("norm")
def _norm(c: Call, x: Operand) -> Value:
    b, value = c.b, c.value(x)
    order, axes = c.integer("ord", 2), c.axes(value.type.rank)
    if order not in (1, 2):
        raise UnsupportedOpError(f"a norm of order {order}")
    parts = b.apply("abs", value) if order == 1 else b.mul(value, value)
    total = recipes.reduce(b, "sum", parts, axes, keepdims=c.flag("keepdims"))
    total = total if total.type.rank else b.reshape(total, 1)
    return total if order == 1 else b.apply("sqrt", total)


@mxnet("argmax", "argmin", "argmax_channel")
def _arg_reduce(c: Call, x: Operand) -> Value:
    value = c.value(x)
    if c.op == "argmax_channel":
        axis = 1
    elif c.text("axis", "None") == "None":
        value, axis = c.b.reshape(value, -1), 0
    else:
        axis = c.axis(value.type.rank)
    kind = "min" if c.op == "argmin" else "max"
    found = c.b.one(ArgReduce(kind, axis), value)
    if c.flag("keepdims"):
        shape = (*value.shape[:axis], 1, *value.shape[axis + 1 :])
        found = c.b.reshape(found, *shape)
    return c.b.cast(found if found.type.rank else c.b.reshape(found, 1), float32)
