"""From a graph to an executable: passes, ports, parameters and options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Graph
from emuron.compiler.ops import Autocast
from emuron.compiler.pipeline import CompileOptions, compile_graph, optimize
from emuron.errors import EmuronError
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import bfloat16, float32
from emuron.numerics.rounding import in_dtype

CORE = instance("inf2.xlarge").chip.core
Make = Callable[..., HFModel]


def test_a_pass_that_breaks_the_graph_is_found_out(bert: Make) -> None:
    def lose_a_node(graph: Graph) -> Graph:
        return replace(graph, nodes=graph.nodes[1:])

    with pytest.raises(EmuronError):
        optimize(bert().encoder_graph(1, 8), (lose_a_node,))


def test_ports_carry_the_names_and_shapes_of_the_graph(llama: Make) -> None:
    graph = llama().decode_graph(1, 32)
    executable = compile_graph(graph, CORE, CompileOptions())
    (part,) = executable.programs
    names = {n: s for port in part.inputs for n, s in zip(port.names, port.shapes, strict=True)}
    assert names == {v.name: v.shape for v in graph.inputs}
    assert set(executable.outputs) == set(graph.output_names)
    assert {n for port in part.outputs for n in port.names} == set(executable.outputs.values())
    assert executable.aliases == {n: n for n in names if "_cache." in n}


def test_weights_of_products_are_stored_as_they_are_read(bert: Make) -> None:
    graph = bert().encoder_graph(1, 8)
    exact, cast = (
        compile_graph(graph, CORE, CompileOptions(Autocast(mode))) for mode in ("none", "matmult")
    )
    products = sum(
        p.type.size_bytes for p in graph.parameters if "dense" in p.name or "self." in p.name
    )
    assert exact.parameter_bytes - cast.parameter_bytes > products // 3


def test_what_is_loaded_fills_its_tensor(bert: Make) -> None:
    executable = compile_graph(bert().encoder_graph(1, 8), CORE, CompileOptions())
    for image in executable.programs[0].parameters:
        array = image.load()
        assert array.shape == image.tensor.shape
        assert array.dtype == image.tensor.dtype.np


def test_a_float64_array_is_rounded_through_float32() -> None:
    array = np.array([1.0, 1.00390625, 3.14159265358979])
    found = in_dtype(array, bfloat16)
    assert found.astype(np.float32).tolist() == [1.0, 1.0, 3.140625]
    assert in_dtype(array, float32).dtype == np.float32
