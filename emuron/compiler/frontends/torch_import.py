"""Imports an exported PyTorch program: its inputs, weights and outputs around its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emuron.compiler.frontends.torch_tensors import shape_alone_if_fake, type_of
from emuron.compiler.frontends.torch_writer import NodeWriter
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError, UsageError


class GraphImporter(NodeWriter):
    """The state of one import."""

    def __init__(self, torch: Any, program: Any, name: str, *, with_data: bool) -> None:
        """Prepare to import `program`; without `with_data` weights and buffers have no loaders."""
        super().__init__(torch, program.graph_module, name)
        self.program = program
        self.with_data = with_data
        self.inputs: dict[str, Value] = {}

    def import_nodes(self, output_names: Sequence[str]) -> None:
        """Declare inputs, write every node that is needed and declare the outputs."""
        nodes = list(self.program.graph.nodes)
        specs = {s.arg.name: s for s in self.program.graph_signature.input_specs}
        for node in nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name])
        self.write(nodes)
        self._outputs(nodes[-1], output_names)

    def _placeholder(self, node: Any, spec: Any) -> None:
        found = node.meta.get("val")
        if not isinstance(found, self.torch.Tensor):
            return
        kind = spec.kind.name
        if kind == "USER_INPUT":
            if found.is_complex():
                raise UnsupportedOpError(
                    f"the input {node.name!r} is complex, which has no place on the chip; pass "
                    "torch.view_as_real of it"
                )
            self.values[node] = self.inputs[node.name] = self.b.input(node.name, type_of(found))
            return
        tensor = self._held(spec)
        if kind != "PARAMETER":
            self.tensors[node] = tensor
        data = tensor if self.with_data else None
        self.values[node] = self._held_as(spec.target, data, type_of(found))

    def _held(self, spec: Any) -> Any:
        """Return the tensor of a parameter, buffer or constant; without data on the meta device."""
        for source in (self.program.state_dict, self.program.constants):
            if spec.target in source:
                return shape_alone_if_fake(self.torch, source[spec.target])
        raise UsageError(f"the exported program holds no tensor for {spec.target!r}")

    def _outputs(self, node: Any, names: Sequence[str]) -> None:
        """Declare the outputs; an input that the module overwrites becomes an aliased output."""
        left = iter(names)
        specs = self.program.graph_signature.output_specs
        for spec, leaf in zip(specs, node.args[0], strict=True):
            if spec.kind.name == "USER_OUTPUT":
                label = next(left)
                if isinstance(leaf, self.torch.fx.Node):
                    self.b.output(label, self.value_of(leaf))
            elif spec.kind.name == "USER_INPUT_MUTATION":
                alias = self.inputs[spec.target]
                self.b.output(f"{spec.target}.updated", self.values[leaf], alias)
            else:
                raise UnsupportedOpError(
                    f"{self.b.name} writes to its buffer {spec.target!r}; a compiled program has "
                    "no state of its own: pass the tensor as an argument and return it"
                )
