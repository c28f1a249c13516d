"""ONNX operators of transformers that stay whole."""

from __future__ import annotations

import math

from emuron.compiler.frontends.onnx_call import Call, NotWholeError, onnx_op
from emuron.compiler.graph import Value
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import int32


@onnx_op("Attention")
def _attention(c: Call) -> tuple[Value, ...]:
    if c.wants(3) or c.attribute("softcap", 0.0) or c.has(6):
        raise NotWholeError("Attention with capped, returned or padded scores is not kept whole")
    if any(c.attribute(n, -1) not in (-1, 0) for n in ("left_window_size", "right_window_size")):
        raise NotWholeError("Attention in a window is not kept whole")
    q = _by_head(c, c.x(0), "q_num_heads")
    k, v = (_by_head(c, c.x(i), "kv_num_heads") for i in (1, 2))
    past = c.x(4).shape[2] if c.has(4) else 0
    if past or c.has(4):
        k, v = (c.b.concat([c.x(i), new], 2) for i, new in ((4, k), (5, v)))
    scale = c.attribute("scale") or 1 / math.sqrt(q.shape[3])
    causal = bool(c.attribute("is_causal", 0))
    positions = None
    if causal and k.shape[2] - q.shape[2] != past:
        causal, positions = False, c.b.iota((q.shape[0], q.shape[2]), 1, int32)
    y = c.b.attention(q, k, v, _mask(c, q, k), scale=scale, causal=causal, positions=positions)
    if c.x(0).type.rank == 3:
        batch, heads, length, size = y.shape
        y = c.b.reshape(c.b.permute(y, 0, 2, 1, 3), batch, length, heads * size)
    return y, k, v


def _by_head(c: Call, x: Value, heads: str) -> Value:
    """Return [batch, heads, sequence, head size] of that or of [batch, sequence, features]."""
    if x.type.rank == 4:
        return x
    count = c.required(heads)
    if x.type.rank != 3 or x.shape[2] % count:
        raise ModelFileError(f"Attention of {x.type} with {count} heads")
    batch, length, features = x.shape
    split = c.b.reshape(x, batch, length, count, features // count)
    return c.b.permute(split, 0, 2, 1, 3)


def _mask(c: Call, q: Value, k: Value) -> Value | None:
    if not c.has(3):
        return None
    mask = c.x(3)
    if mask.shape[-1] != k.shape[2]:
        raise NotWholeError("Attention with a mask shorter than the keys is not kept whole")
    return c.b.reshape(mask, *(1,) * (4 - mask.type.rank), *mask.shape)


@onnx_op("RotaryEmbedding")
def _rotary(c: Call) -> Value:
    x, cos, sin = c.x(0), c.x(1), c.x(2)
    heads = x
    if x.type.rank == 3:
        batch, length, features = x.shape
        count = c.required("num_heads")
        heads = c.b.reshape(x, batch, length, count, features // count)
        heads = c.b.permute(heads, 0, 2, 1, 3)
    if c.has(3):
        places = c.b.cast(c.x(3), int32)
        cos, sin = (c.b.take(table, places, 0) for table in (cos, sin))
    turned = c.attribute("rotary_embedding_dim", 0) or heads.shape[3]
    if cos.shape[-1] != turned // 2:
        raise ModelFileError(f"RotaryEmbedding of {turned} features with angles {cos.type}")
    y = c.b.rope(heads, cos, sin, interleaved=bool(c.attribute("interleaved", 0)))
    if x.type.rank == 4:
        return y
    return c.b.reshape(c.b.permute(y, 0, 2, 1, 3), *x.shape)
