"""The workloads as NKI kernels, for emuron and for triton-viz's NKI interpreter alike.

They keep to the ten instructions that both know. Each writes into `out`; `nl` and `nisa` are the
modules of whoever runs them, set by `use` before.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

nl: Any = None
nisa: Any = None

PARTITIONS = 128
WIDE = 512  # columns of a moving operand: one PSUM bank of fp32


def use(language: ModuleType, isa: ModuleType) -> None:
    """Let the kernels issue their instructions through these modules."""
    global nl, nisa
    nl, nisa = language, isa


def matmul(lhs_t, rhs, out):
    """Write lhs @ rhs for `lhs_t` [K, M] and `rhs` [K, N], both held in SBUF."""
    (depth, rows), columns = lhs_t.shape, rhs.shape[1]
    lhs_tiles, rhs_tiles = [], []
    for k in nl.affine_range(depth // PARTITIONS):
        here = nl.ds(k * PARTITIONS, PARTITIONS)
        for source, tiles in ((lhs_t, lhs_tiles), (rhs, rhs_tiles)):
            tile = nl.ndarray((PARTITIONS, source.shape[1]), dtype=source.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=source[here, :])
            tiles.append(tile)
    for m in nl.affine_range(rows // PARTITIONS):
        here = nl.ds(m * PARTITIONS, PARTITIONS)
        result = nl.ndarray((PARTITIONS, columns), dtype=out.dtype, buffer=nl.sbuf)
        for n in nl.affine_range(columns // WIDE):
            across = nl.ds(n * WIDE, WIDE)
            product = nl.ndarray((PARTITIONS, WIDE), dtype="float32", buffer=nl.psum)
            for lhs_tile, rhs_tile in zip(lhs_tiles, rhs_tiles, strict=True):
                nisa.nc_matmul(
                    dst=product, stationary=lhs_tile[:, here], moving=rhs_tile[:, across]
                )
            nisa.tensor_copy(dst=result[:, across], src=product)
        nisa.dma_copy(dst=out[here, :], src=result)


def softmax(x, out):
    """Write the softmax of each row, 128 whole rows at a time."""
    rows, columns = x.shape
    for start in nl.affine_range(0, rows, PARTITIONS):
        here = nl.ds(start, PARTITIONS)
        tile = nl.ndarray((PARTITIONS, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[here, :])
        negative_max = column()
        nisa.tensor_reduce(
            dst=negative_max, op=nl.maximum, data=tile, axis=1, negate=True, keepdims=True
        )
        powers = nl.ndarray((PARTITIONS, columns), dtype="float32", buffer=nl.sbuf)
        total = column()
        exponential(powers, tile, negative_max, 1.0, total)
        nisa.reciprocal(dst=total, data=total)
        nisa.tensor_scalar(dst=tile, data=powers, op0=nl.multiply, operand0=total)
        nisa.dma_copy(dst=out[here, :], src=tile)


def column():
    """Return one fp32 value for each partition."""
    return nl.ndarray((PARTITIONS, 1), dtype="float32", buffer=nl.sbuf)


def exponential(dst, data, bias, scale, total):
    """Issue dst = exp(scale * data + bias) and its sums along rows: one pass of the engine."""
    nisa.activation(
        dst=dst,
        op=nl.exp,
        data=data,
        bias=bias,
        scale=scale,
        reduce_op=nl.add,
        reduce_res=total,
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
    )


def attention(query_t, key_t, value, out, scale, step):
    """Write softmax(scale * query @ key^T) @ value for each head, `step` keys at a time.

    `query_t` and `key_t` are [heads, width, sequence], `value` and `out` [heads, sequence, width].
    """
    heads, width, sequence = key_t.shape
    for head in nl.affine_range(heads):
        keys = nl.ndarray((width, sequence), dtype=key_t.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=keys, src=key_t[head])
        values = []
        for start in nl.affine_range(0, sequence, PARTITIONS):
            tile = nl.ndarray((PARTITIONS, width), dtype=value.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=value[head, nl.ds(start, PARTITIONS), :])
            values.append(tile)
        for start in nl.affine_range(0, sequence, PARTITIONS):
            here = nl.ds(start, PARTITIONS)
            queries = nl.ndarray((width, PARTITIONS), dtype=query_t.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=queries, src=query_t[head, :, here])
            result = attend(queries, keys, values, scale, step)
            nisa.dma_copy(dst=out[head, here, :], src=result)


def attend(queries, keys, values, scale, step):
    """Return the attention of 128 queries, with running maxima and sums."""
    width, sequence = keys.shape
    total, acc = column(), nl.ndarray((PARTITIONS, width), dtype="float32", buffer=nl.sbuf)
    before = None
    for start in nl.affine_range(0, sequence, step):
        scores = nl.ndarray((PARTITIONS, step), dtype="float32", buffer=nl.psum)
        nisa.nc_matmul(dst=scores, stationary=queries, moving=keys[:, nl.ds(start, step)])
        bias, part = column(), column()
        nisa.tensor_reduce(dst=bias, op=nl.maximum, data=scores, axis=1, negate=True, keepdims=True)
        if before is None:
            nisa.tensor_scalar(dst=bias, data=bias, op0=nl.multiply, operand0=scale)
        else:
            nisa.tensor_scalar(bias, bias, nl.multiply, scale, op1=nl.minimum, operand1=before)
        weights = nl.ndarray((PARTITIONS, step), dtype=values[0].dtype, buffer=nl.sbuf)
        exponential(weights, scores, bias, scale, part)
        product = weigh(weights, values[start // PARTITIONS :])
        if before is None:
            nisa.tensor_copy(dst=total, src=part)
            nisa.tensor_copy(dst=acc, src=product)
        else:
            correction = column()
            nisa.activation(dst=correction, op=nl.exp, data=before, bias=bias, scale=-1.0)
            nisa.tensor_scalar(total, total, nl.multiply, correction, op1=nl.add, operand1=part)
            nisa.tensor_scalar(dst=acc, data=acc, op0=nl.multiply, operand0=correction)
            nisa.tensor_tensor(dst=acc, data1=acc, data2=product, op=nl.add)
        before = bias
    nisa.reciprocal(dst=total, data=total)
    result = nl.ndarray((PARTITIONS, width), dtype=values[0].dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=result, data=acc, op0=nl.multiply, operand0=total)
    return result


def weigh(weights, values):
    """Return weights @ values in PSUM; blocks of weights are transposed for the contraction."""
    step = weights.shape[1]
    turned = nl.ndarray((PARTITIONS, step), dtype=weights.dtype, buffer=nl.psum)
    for at in nl.affine_range(0, step, PARTITIONS):
        block = nl.ds(at, PARTITIONS)
        nisa.nc_transpose(dst=turned[:, block], data=weights[:, block])
    stationary = nl.ndarray((PARTITIONS, step), dtype=weights.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=stationary, src=turned)
    product = nl.ndarray((PARTITIONS, values[0].shape[1]), dtype="float32", buffer=nl.psum)
    for number in nl.affine_range(step // PARTITIONS):
        block = nl.ds(number * PARTITIONS, PARTITIONS)
        nisa.nc_matmul(dst=product, stationary=stationary[:, block], moving=values[number])
    return product


def attention_in_two_passes(query_t, key_t, value, out, scale):
    """Write the same attention: the maxima of all scores first, then their powers and sums.

    The second time scores come out turned, keys on the partitions, as their product with the values
    contracts them. A row of ones under the keys takes the queries' maxima off, and a column of ones
    beside the values gives the sums.
    """
    heads, width, sequence = key_t.shape
    for head in nl.affine_range(heads):
        keys = nl.ndarray((width + 1, sequence), dtype=key_t.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=keys[0:width, :], src=key_t[head])
        ones(keys[width : width + 1, :], keys[0:1, :])
        values = []
        for start in nl.affine_range(0, sequence, PARTITIONS):
            tile = nl.ndarray((PARTITIONS, width + 1), dtype=value.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile[:, 0:width], src=value[head, nl.ds(start, PARTITIONS), :])
            ones(tile[:, width : width + 1], tile[:, 0:1])
            values.append(tile)
        for start in nl.affine_range(0, sequence, WIDE):
            queries = nl.ndarray((width + 1, WIDE), dtype=query_t.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=queries[0:width, :], src=query_t[head, :, nl.ds(start, WIDE)])
            for at in nl.affine_range(0, WIDE, PARTITIONS):
                take_off_maxima(queries, keys, nl.ds(at, PARTITIONS))
            product = weighed(queries, keys, values, scale)
            for at in nl.affine_range(0, WIDE, PARTITIONS):
                turned = nl.ndarray((PARTITIONS, width + 1), dtype="float32", buffer=nl.psum)
                nisa.nc_transpose(dst=turned, data=product[:, nl.ds(at, PARTITIONS)])
                total = column()
                nisa.reciprocal(dst=total, data=turned[:, width : width + 1])
                result = nl.ndarray((PARTITIONS, width), dtype=value.dtype, buffer=nl.sbuf)
                nisa.tensor_scalar(
                    dst=result, data=turned[:, 0:width], op0=nl.multiply, operand0=total
                )
                nisa.dma_copy(dst=out[head, nl.ds(start + at, PARTITIONS), :], src=result)


def ones(dst, like):
    """Fill `dst` with ones, from any numbers of its shape."""
    nisa.tensor_scalar(dst, like, nl.multiply, 0.0, op1=nl.add, operand1=1.0)


def take_off_maxima(queries, keys, block):
    """Write what is to be added to the scores of 128 queries under them: their negated maxima."""
    width, sequence = keys.shape[0] - 1, keys.shape[1]
    largest = nl.ndarray((PARTITIONS, sequence // WIDE), dtype="float32", buffer=nl.sbuf)
    for number in nl.affine_range(sequence // WIDE):
        scores = nl.ndarray((PARTITIONS, WIDE), dtype="float32", buffer=nl.psum)
        moving = keys[0:width, nl.ds(number * WIDE, WIDE)]
        nisa.nc_matmul(dst=scores, stationary=queries[0:width, block], moving=moving)
        place = largest[:, number : number + 1]
        nisa.tensor_reduce(dst=place, op=nl.maximum, data=scores, axis=1, keepdims=True)
    negative = column()
    nisa.tensor_reduce(
        dst=negative, op=nl.maximum, data=largest, axis=1, negate=True, keepdims=True
    )
    row = nl.ndarray((1, PARTITIONS), dtype="float32", buffer=nl.psum)
    nisa.nc_transpose(dst=row, data=negative)
    nisa.tensor_copy(dst=queries[width : width + 1, block], src=row)


def weighed(queries, keys, values, scale):
    """Return the sums of values and of powers, [width + 1, queries], of 512 queries."""
    product = nl.ndarray((keys.shape[0], WIDE), dtype="float32", buffer=nl.psum)
    for number, tile in enumerate(values):
        scores = nl.ndarray((PARTITIONS, WIDE), dtype="float32", buffer=nl.psum)
        block = nl.ds(number * PARTITIONS, PARTITIONS)
        nisa.nc_matmul(dst=scores, stationary=keys[:, block], moving=queries)
        weights = nl.ndarray((PARTITIONS, WIDE), dtype=tile.dtype, buffer=nl.sbuf)
        nisa.activation(dst=weights, op=nl.exp, data=scores, scale=scale)
        nisa.nc_matmul(dst=product, stationary=tile, moving=weights)
    result = nl.ndarray(product.shape, dtype="float32", buffer=nl.sbuf)
    nisa.tensor_copy(dst=result, src=product)
    return result
