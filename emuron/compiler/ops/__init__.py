"""The graph operators: infer, evaluate, lower and examples of each."""

# The builder names every operator, so importing it fills the registry.
from emuron.compiler.ops.builder import GraphBuilder
from emuron.compiler.ops.context import Autocast, EvalContext, Example
from emuron.compiler.ops.registry import OPS, find_op, op
from emuron.compiler.ops.wide_attention import WideAttention

__all__ = [
    "OPS",
    "Autocast",
    "EvalContext",
    "Example",
    "GraphBuilder",
    "WideAttention",
    "find_op",
    "op",
]
