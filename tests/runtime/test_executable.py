"""What an executable says of its bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emuron.compiler.graph import TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import float32, int32
from emuron.runtime.executable import Executable


def executable() -> Executable:
    """Return a program with a table of 10 · 8 floats that is looked up."""
    b = GraphBuilder("table")
    ids = b.input("ids", TensorType((1, 4), int32))
    weight = b.parameter("w", TensorType((10, 8), float32), lambda: np.ones((10, 8), np.float32))
    b.output("y", b.tanh(b.take(weight, ids)))
    return compile_graph(b.finish(), instance("inf2.xlarge").chip.core, CompileOptions(Autocast()))


def test_bytes_are_those_of_parameters_inputs_and_outputs() -> None:
    made = executable()
    assert made.parameter_bytes == 10 * 8 * 4
    assert made.input_bytes == 4 * 4
    assert made.output_bytes == 4 * 8 * 4
    assert made.hbm_bytes >= 320 + 16 + 128


def test_what_stays_on_the_device_is_not_copied() -> None:
    (made,) = executable().programs
    kept = replace(made, aliases={made.outputs[0].names[0]: "ids"})
    assert kept.input_bytes == 0
    assert kept.output_bytes == 0
