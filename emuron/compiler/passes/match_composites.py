"""Finds composites that a front end delivers in pieces, in one form of many that frameworks write.

What a match saves are roundings between the pieces (in float32 there are none but those of the
operators' own order of additions) and work; the function is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from emuron.compiler.graph import Graph
from emuron.compiler.passes import match_activations as activations
from emuron.compiler.passes import match_attention as attention
from emuron.compiler.passes import match_batch_norm as images
from emuron.compiler.passes import match_norms as norms
from emuron.compiler.passes import match_rope as ropes
from emuron.compiler.passes import simplify
from emuron.compiler.passes.matching import Matching, Pattern

PATTERNS: Mapping[str, tuple[Pattern, ...]] = MappingProxyType(
    {
        "add": (
            simplify.fold_numbers,
            simplify.drop_neutral,
            ropes.rope,
            norms.spread_layer_norm,
            norms.biased_layer_norm,
            images.conv_bias,
            images.batch_norm,
            images.element_wise,
        ),
        "attention": (attention.shared_heads, attention.simpler_mask),
        "cast": (simplify.fold_numbers, simplify.drop_same),
        "concat": (ropes.joined_rope,),
        "div": (
            simplify.fold_numbers,
            simplify.drop_neutral,
            simplify.mean,
            norms.softmax,
            activations.sigmoid,
            activations.divided_silu,
            simplify.inverse_root,
        ),
        "erf": (simplify.fold_numbers,),
        "exp": (simplify.fold_numbers,),
        "matmul": (simplify.turn_matmul, attention.attention),
        "max": (simplify.fold_numbers, simplify.drop_neutral, simplify.relu, images.element_wise),
        "min": (simplify.fold_numbers, simplify.drop_neutral, images.element_wise),
        "mul": (
            simplify.fold_numbers,
            simplify.drop_neutral,
            simplify.negate,
            simplify.mean,
            activations.silu,
            activations.gelu,
            norms.rms_norm,
            norms.weighted_rms_norm,
            norms.layer_norm,
            norms.weighted_layer_norm,
            images.element_wise,
        ),
        "pad": (images.padded,),
        "permute": (simplify.join_permutes,),
        "pow": (simplify.fold_numbers, simplify.drop_neutral, simplify.square),
        "reciprocal": (simplify.fold_numbers, activations.sigmoid, simplify.inverse_root),
        "reshape": (simplify.join_reshapes,),
        "rsqrt": (simplify.fold_numbers,),
        "select": (simplify.choose,),
        "slice": (simplify.drop_same,),
        "softmax": (simplify.reshape_after,),
        "sqrt": (simplify.fold_numbers,),
        "sub": (simplify.fold_numbers, simplify.drop_neutral, simplify.negate),
        **dict.fromkeys(("gelu", "relu", "sigmoid", "silu", "tanh"), (images.element_wise,)),
        **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), (simplify.fold_numbers,)),
    }
)
"""Patterns by the operator of the last node, tried in order on what the ones before made of it."""


def match_composites(graph: Graph) -> Graph:
    """Return the graph with composites in place of their pieces (dead pieces stay behind)."""
    match = Matching(graph, PATTERNS)
    for node in graph.nodes:
        match.visit(node)
    outputs = tuple(match.stands_for.get(v, v) for v in graph.outputs)
    return replace(graph, nodes=tuple(match.nodes), outputs=outputs)
