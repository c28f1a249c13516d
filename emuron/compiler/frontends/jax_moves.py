"""JAX primitives that move elements: shapes, slices, places, windows, products."""

from __future__ import annotations

from typing import Any

from emuron.compiler.frontends import recipes, xla
from emuron.compiler.frontends.jax_call import Call, jaxpr
from emuron.compiler.graph import Value
from emuron.compiler.ops.creation import Iota
from emuron.errors import UnsupportedOpError

_MOST_ROWS = 4096


@jaxpr("reshape", "squeeze", "expand_dims")
def _reshape(c: Call, x: Value) -> Value:
    if c.params.get("dimensions") is not None and c.name == "reshape":
        x = c.b.permute(x, *c.integers("dimensions"))
    return c.b.reshape(x, *c.out.shape)


@jaxpr("transpose")
def _transpose(c: Call, x: Value) -> Value:
    return c.b.permute(x, *c.integers("permutation"))


@jaxpr("broadcast_in_dim")
def _broadcast_in_dim(c: Call, x: Value) -> Value:
    return xla.broadcast_in_dim(c.b, x, c.out.shape, c.integers("broadcast_dimensions"))


@jaxpr("concatenate")
def _concatenate(c: Call, *parts: Value) -> Value:
    return c.b.concat(parts, int(c["dimension"]))


@jaxpr("split")
def _split(c: Call, x: Value) -> list[Value]:
    axis, start, parts = int(c["axis"]), 0, []
    for size in c.integers("sizes"):
        parts.append(c.b.slice(x, axis, start, start + size))
        start += size
    return parts


@jaxpr("slice")
def _slice(c: Call, x: Value) -> Value:
    starts, stops = c.integers("start_indices"), c.integers("limit_indices")
    steps = c.integers("strides") or (1,) * x.type.rank
    for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        if (start, stop, step) != (0, x.shape[axis], 1):
            x = c.b.slice(x, axis, start, stop, step)
    return x


@jaxpr("pad")
def _pad(c: Call, x: Value, fill: Value) -> Value:
    number = c.known.array(fill)
    if number is None:
        raise UnsupportedOpError("padding with a number that is data")
    return xla.pad(c.b, x, float(number), c["padding_config"])


@jaxpr("rev")
def _reverse(c: Call, x: Value) -> Value:
    return c.b.reverse(x, c.integers("dimensions"))


@jaxpr("iota")
def _iota(c: Call) -> Value:
    return c.b.one(Iota(c.out.shape, int(c["dimension"]), c.out.dtype))


@jaxpr("dynamic_slice")
def _dynamic_slice(c: Call, x: Value, *starts: Value) -> Value:
    return xla.dynamic_slice(c.b, c.known, x, starts, c.integers("slice_sizes"))


@jaxpr("dynamic_update_slice")
def _dynamic_update_slice(c: Call, x: Value, update: Value, *starts: Value) -> Value:
    return xla.dynamic_update_slice(c.b, x, update, starts)


@jaxpr("gather")
def _gather(c: Call, x: Value, index: Value) -> Value:
    numbers = c["dimension_numbers"]
    spec = xla.GatherSpec(
        tuple(numbers.offset_dims),
        tuple(numbers.collapsed_slice_dims),
        tuple(numbers.start_index_map),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.start_indices_batching_dims),
    )
    # What lies outside is filled with NaN in JAX, and an error here; only CLIP means a place.
    clamped = str(c["mode"]).endswith("CLIP")
    return xla.gather(c.b, x, index, spec, c.integers("slice_sizes"), clamped=clamped)


@jaxpr("scatter", "scatter-add", "scatter_add", "scatter_mul", "scatter_min", "scatter_max")
def _scatter(c: Call, x: Value, index: Value, update: Value) -> Value:
    numbers = c["dimension_numbers"]
    spec = xla.GatherSpec(
        tuple(numbers.update_window_dims),
        tuple(numbers.inserted_window_dims),
        tuple(numbers.scatter_dims_to_operand_dims),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.scatter_indices_batching_dims),
    )
    combiner = {"scatter": "set"}.get(c.name, c.name[-3:])
    return xla.scatter(c.b, x, index, update, spec, combiner)


# Products and windows


@jaxpr("dot_general")
def _dot_general(c: Call, x: Value, y: Value) -> Value:
    contract, batch = c["dimension_numbers"]
    return xla.dot_general(c.b, x, y, contract, batch, c.out.dtype)


@jaxpr("conv_general_dilated")
def _conv(c: Call, x: Value, kernel: Value) -> Value:
    if int(c["batch_group_count"]) != 1:
        raise UnsupportedOpError("a convolution in groups of the batch")
    numbers = c["dimension_numbers"]
    spec = xla.ConvSpec(tuple(numbers.lhs_spec), tuple(numbers.rhs_spec), tuple(numbers.out_spec))
    return xla.convolution(
        c.b,
        x,
        kernel,
        spec,
        stride=c["window_strides"],
        padding=c["padding"],
        lhs_dilation=c["lhs_dilation"],
        rhs_dilation=c["rhs_dilation"],
        groups=int(c["feature_group_count"]),
    )


@jaxpr("reduce_window_max", "reduce_window_min", "reduce_window_sum")
def _reduce_window(c: Call, x: Value) -> Value:
    if any(n != 1 for n in c.integers("base_dilation")):
        raise UnsupportedOpError("windows over a dilated tensor")
    return xla.reduce_window(
        c.b,
        c.name.rpartition("_")[2],
        x,
        c.integers("window_dimensions"),
        c.integers("window_strides"),
        c["padding"],
        c.integers("window_dilation"),
    )


# Control


@jaxpr("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2")
def _call(c: Call, *operands: Value) -> list[Value]:
    return c.inline(c.params.get("jaxpr", c.params.get("call_jaxpr")), *operands)


@jaxpr("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
def _custom(c: Call, *operands: Value) -> list[Value]:
    body = c.params.get("call_jaxpr", c.params.get("fun_jaxpr"))
    return c.inline(body, *operands)


@jaxpr("scan")
def _scan(c: Call, *operands: Value) -> list[Value]:
    """Write out a loop over the leading dimension."""
    length, constants, carry = (int(c[n]) for n in ("length", "num_consts", "num_carry"))
    if length > _MOST_ROWS:
        raise UnsupportedOpError(f"a scan of {length} steps is not written out")
    fixed, state = operands[:constants], list(operands[constants : constants + carry])
    rows: list[list[Value]] = []
    turns = range(length)[::-1] if c["reverse"] else range(length)
    for turn in turns:
        with c.b.scope(f"scan.{turn}"):
            parts = [_row(c, x, turn) for x in operands[constants + carry :]]
            made = c.inline(c["jaxpr"], *fixed, *state, *parts)
        state = made[:carry]
        rows.append(made[carry:])
    if c["reverse"]:
        rows.reverse()
    stacked = [
        _stack(c, [row[i] for row in rows]) if rows else c.b.full(0, out.shape, out.dtype)
        for i, out in enumerate(c.outs[carry:])
    ]
    return [*state, *stacked]


def _row(c: Call, x: Value, place: int) -> Value:
    return c.b.reshape(c.b.slice(x, 0, place, place + 1), *x.shape[1:])


def _stack(c: Call, rows: list[Value]) -> Value:
    opened = [c.b.reshape(r, 1, *r.shape) for r in rows]
    return c.b.concat(opened, 0) if len(opened) > 1 else opened[0]


@jaxpr("while")
def _while(c: Call, *operands: Value) -> list[Value]:
    """Write out a loop whose number of turns follows from constants."""
    first = int(c["cond_nconsts"])
    second = first + int(c["body_nconsts"])
    of_cond, of_body, state = operands[:first], operands[first:second], list(operands[second:])
    for _ in range(_MOST_ROWS):
        (going,) = c.inline(c["cond_jaxpr"], *of_cond, *state)
        known = c.known.array(going)
        if known is None:
            raise UnsupportedOpError(
                "the number of turns of a while loop depends on the values of a tensor; use scan, "
                "or fori_loop with bounds that are Python numbers"
            )
        if not bool(known):
            return state
        state = c.inline(c["body_jaxpr"], *of_body, *state)
    raise UnsupportedOpError(f"a loop of more than {_MOST_ROWS} turns is not written out")


@jaxpr("cond")
def _cond(c: Call, which: Value, *operands: Value) -> list[Value]:
    """Write the branch that is taken, or all and a choice of their results."""
    branches: Any = c["branches"]
    known = c.known.array(which)
    if known is not None:
        place = min(max(int(known), 0), len(branches) - 1)
        return c.inline(branches[place], *operands)
    return recipes.choose(c.b, which, [c.inline(branch, *operands) for branch in branches])
