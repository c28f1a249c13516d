"""Loading, running and refusing on the virtual device."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.graph import TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.errors import CapacityError, UsageError
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import float32, int32
from emuron.runtime.device import Device, stored_as
from emuron.runtime.executable import Executable

INF2 = instance("inf2.xlarge")


def table(rows: int = 10, columns: int = 8) -> Executable:
    """Return a program that looks up rows of a table of ones and doubles them."""
    b = GraphBuilder("table")
    ids = b.input("ids", TensorType((1, 4), int32))
    shape = (rows, columns)
    weight = b.parameter("w", TensorType(shape, float32), lambda: np.ones(shape, np.float32))
    found = b.take(weight, ids)
    b.output("y", b.add(found, found))
    return compile_graph(b.finish(), INF2.chip.core, CompileOptions(Autocast()))


def test_a_program_runs_again_and_again_with_the_parameters_loaded_once() -> None:
    device, executable = Device(INF2), table()
    for ids in ([[0, 1, 2, 3]], [[9, 9, 9, 9]]):
        outputs = device.run(executable, {"ids": np.array(ids)})
        np.testing.assert_array_equal(outputs["y"], np.full((1, 4, 8), 2.0, np.float32))


def test_an_output_is_not_changed_by_the_next_run() -> None:
    device, executable = Device(INF2), table()
    first = device.run(executable, {"ids": np.zeros((1, 4), np.int32)})["y"]
    first[:] = 7
    again = device.run(executable, {"ids": np.zeros((1, 4), np.int32)})["y"]
    assert (again == 2).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing: ids"),
        ({"ids": np.zeros((1, 4), np.int32), "more": np.zeros(1)}, "unknown: more"),
        ({"ids": np.zeros((2, 4), np.int32)}, r"shape \[2, 4\].*compiled for \[1, 4\]"),
        ({"ids": np.full((1, 4), 1 << 40)}, "cannot hold"),
    ],
)
def test_wrong_inputs_are_refused_by_name(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Device(INF2).run(table(), inputs)


def test_a_program_beyond_a_cores_memory_is_refused() -> None:
    with pytest.raises(CapacityError, match=r"does not fit: .* GiB on each core"):
        Device(INF2).load(table(rows=1 << 23, columns=1024))


def test_a_program_is_timed_once() -> None:
    device, executable = Device(INF2), table()
    assert device.time(executable) is device.time(executable)
    assert device.time(executable).total_ps > 0


def test_float64_and_narrower_integers_are_stored_in_the_ports_dtype() -> None:
    port = table().programs[0].inputs[0]
    assert stored_as(np.array([[1, 2, 3, 4]], np.int64), port).dtype == np.int32
