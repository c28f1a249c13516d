"""The compiler's SSA tensor graph."""

from emuron.compiler.graph.blocks import Block, block_hash, split_blocks
from emuron.compiler.graph.builder import NodeBuilder
from emuron.compiler.graph.graph import Graph, Node, Parameter, Value
from emuron.compiler.graph.op import Array, Op
from emuron.compiler.graph.tensor_type import TensorType
from emuron.compiler.graph.text import op_text, to_text
from emuron.compiler.graph.verify import verify

__all__ = [
    "Array",
    "Block",
    "Graph",
    "Node",
    "NodeBuilder",
    "Op",
    "Parameter",
    "TensorType",
    "Value",
    "block_hash",
    "op_text",
    "split_blocks",
    "to_text",
    "verify",
]
