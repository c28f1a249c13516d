"""jit and simulate: the forms of the decorator, arguments, outputs, and errors of kernels."""

from __future__ import annotations

import functools
import inspect
import re
import sys

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import (
    CapacityError,
    EmuronError,
    HardwareLimitError,
    OutOfBoundsError,
    UninitializedReadError,
    UsageError,
)


def double(x: nl.ndarray, factor: float = 2.0) -> nl.ndarray | None:
    """Return x times factor."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nisa.tensor_scalar(tile, tile, nl.multiply, factor)
    nl.store(out, tile)
    return out


X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    "make",
    [
        nki.jit,
        nki.jit(),
        nki.jit(mode="trace", debug_kernel=True),
        lambda f: nki.jit(nki.jit(f)),
        lambda f: nki.jit(f)[1],
    ],
)
def test_every_form_of_jit_makes_the_same_kernel(make):
    kernel = make(double)
    assert nki.simulate(kernel)(X).tolist() == (X * 2).tolist()
    assert kernel.__name__ == "double"
    assert kernel.__doc__ == "Return x times factor."
    assert list(inspect.signature(kernel).parameters) == ["x", "factor"]
    assert kernel.__wrapped__ is double


def test_a_kernel_called_with_arrays_runs():
    assert nki.jit(double)(X, factor=3.0).tolist() == (X * 3).tolist()


def test_simulate_takes_a_plain_function():
    assert nki.simulate(double)(X).tolist() == (X * 2).tolist()


def test_a_kernel_called_from_a_kernel_becomes_part_of_it():
    inner = nki.jit(double)

    @nki.jit
    def outer(x):
        return inner(inner(x))

    assert nki.simulate(outer)(X).tolist() == (X * 4).tolist()


def test_a_chip_without_pairs_of_cores_refuses_two():
    with pytest.raises(UsageError, match=r"double\[2\].*logical cores of inferentia2 have 1"):
        nki.simulate(nki.jit(double)[2], target="inf2")(X)


def test_the_grid_is_what_the_kernel_was_launched_with():
    seen = []

    def kernel(x):
        seen.append((nl.program_ndim(), nl.num_programs(), nl.program_id(0)))
        return double(x)

    nki.simulate(nki.jit(kernel))(X)
    nki.simulate(nki.jit(kernel)[1])(X)
    assert seen == [(0, 1, 0), (1, 1, 0)]


def test_an_argument_that_is_written_changes_in_place():
    def kernel(x):
        tile = nl.load(x)
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nl.store(x, tile)

    given = X.copy()
    assert nki.simulate(kernel)(given) is None
    assert given.tolist() == (X + 1).tolist()


def test_arrays_in_tuples_and_dicts_become_tensors():
    def kernel(pair, named):
        out = nl.ndarray(pair[0].shape, pair[0].dtype, buffer=nl.shared_hbm)
        nl.store(out, nl.add(nl.load(pair[0]), nl.load(named["b"])))
        return out, (out,)

    first, (second,) = nki.simulate(kernel)((X,), {"b": X * 2})
    assert first.tolist() == second.tolist() == (X * 3).tolist()


@pytest.mark.torch
def test_torch_tensors_in_torch_tensors_out():
    torch = pytest.importorskip("torch")
    given = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    made = nki.simulate(double)(given)
    assert made.dtype == torch.bfloat16
    assert made.tolist() == (given * 2).tolist()


def test_the_target_is_the_argument_then_the_environment_then_trn2(monkeypatch):
    def kernel(x):
        seen.append(nisa.get_nc_version())
        return double(x)

    seen = []
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE", raising=False)
    nki.simulate(kernel)(X)
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "gen2")
    nki.simulate(kernel)(X)
    nki.simulate(kernel, target="trn3")(X)
    assert seen == [nisa.nc_version.gen3, nisa.nc_version.gen2, nisa.nc_version.gen4]


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        *(("trn1", 2), ("inf2", 2), ("gen2", 2), ("trn2", 3), ("gen3", 3), ("trn3", 4)),
        *(("gen4", 4), ("trn2.48xlarge", 3)),
    ],
)
def test_the_target_goes_by_all_its_names(monkeypatch, name, generation):
    seen = []

    def kernel(x):
        seen.append(int(nisa.get_nc_version()))

    nki.simulate(kernel, target=name)(X)
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", name)
    nki.simulate(kernel)(X)
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE")
    monkeypatch.setenv("NKI_NC_VERSION", name)
    nki.simulate(kernel)(X)
    assert seen == [generation] * 3


def test_a_kernel_made_for_a_chip_runs_on_it_where_the_launch_names_none(monkeypatch):
    seen = []

    @nki.jit(platform_target="trn3", mode="trace")
    def kernel(x):
        seen.append(int(nisa.get_nc_version()))

    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1")
    kernel[1](X)
    nki.simulate(kernel)(X)
    nki.simulate(kernel[2], target="trn2")(X)
    assert seen == [4, 4, 3, 3]


def test_other_logical_cores_than_the_runtimes_are_refused(monkeypatch):
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "2")
    nki.simulate(nki.jit(double)[2])(X)
    nki.simulate(double)(X)
    with pytest.raises(UsageError, match=r"double\[1\].*NEURON_LOGICAL_NC_CONFIG=2"):
        nki.simulate(nki.jit(double)[1])(X)


def test_numbers_are_rounded_whatever_the_environment_asks(monkeypatch):
    monkeypatch.setenv("NKI_PRECISE_FP", "0")
    with pytest.warns(UserWarning, match="NKI_PRECISE_FP=0 has no effect"):
        nki.simulate(double)(X)


def test_wrappers_around_kernels_and_kernels_around_wrappers_are_transparent():
    def wrapper(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs)

        return inner

    for kernel in (wrapper(nki.jit(double)), nki.jit(wrapper(double)), wrapper(wrapper(double))):
        assert list(inspect.signature(kernel).parameters) == ["x", "factor"]
        assert nki.simulate(kernel)(X, factor=3.0).tolist() == (X * 3).tolist()
        with pytest.raises(UsageError, match="Argument x is float64"):
            nki.simulate(kernel)(X.astype(np.float64))


def test_partial_functions_and_methods_are_kernels():
    class Layer:
        factor = 5.0

        @nki.jit
        def forward(self, x):
            return double(x, self.factor)

    assert nki.simulate(functools.partial(double, factor=4.0))(X).tolist() == (X * 4).tolist()
    assert Layer().forward(X).tolist() == (X * 5).tolist()
    assert Layer().forward[1](X).tolist() == (X * 5).tolist()
    assert isinstance(Layer.forward, type(nki.jit(double)))


def test_a_kernel_without_arguments_runs():
    def kernel():
        out = nl.ndarray((2, 2), nl.float32, buffer=nl.shared_hbm)
        nl.store(out, nl.full((2, 2), 3.0, nl.float32))
        return out

    assert nki.jit(kernel)().tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_prints_of_kernels_are_seen(capsys):
    def kernel(x):
        print("shape", x.shape)  # noqa: T201 (what kernels do)
        nl.device_print("x:", nl.load(x)[0:1, 0:2])

    nki.simulate(kernel)[2](X)
    assert capsys.readouterr().out == 2 * "shape (3, 4)\nx: [[0. 1.]]\n"


@pytest.mark.parametrize("cores", [1, 2])
def test_breakpoints_stop_in_the_kernel(monkeypatch, cores):
    stopped = []
    monkeypatch.setattr(
        sys, "breakpointhook", lambda: stopped.append(sys._getframe(1).f_code.co_name)
    )

    def kernel(x):
        breakpoint()

    nki.simulate(kernel)[cores](X)
    assert stopped == ["kernel"] * cores


def test_timing_needs_no_data():
    shape = nki.ShapeDtype((128, 512), "bfloat16")
    run = nki.run_kernel(double, (shape,), execute=False)
    again = nki.run_kernel(double, (np.zeros((128, 512), nl.bfloat16.np),))
    assert run.outputs is None
    assert run.timing.total_ps == again.timing.total_ps > 0
    with pytest.raises(UsageError, match="execute=False"):
        nki.simulate(double)(shape)


def test_float64_is_refused_by_name():
    with pytest.raises(UsageError, match="Argument x is float64"):
        nki.simulate(double)(X.astype(np.float64))


def test_an_output_outside_of_shared_hbm_is_refused():
    with pytest.raises(UsageError, match=r"buffer=nl\.shared_hbm"):
        nki.simulate(lambda x: nl.load(x))(X)


def reads_uninitialised(x):
    tile = nl.ndarray((128, 8), nl.float32)
    nisa.tensor_copy(tile, nl.ndarray((128, 8), nl.float32, name="never"))


def reads_outside(x):
    nl.load(x[0:4])


def too_many_partitions(x):
    nl.ndarray((256, 8), nl.float32, name="tall")


def too_large(x):
    nl.ndarray((128, 2**20), nl.float32, name="wide")


def hbm_operand(x):
    nisa.tensor_copy(nl.ndarray((3, 4), nl.float32), x)


def no_tensor(x):
    nisa.tensor_copy(nl.ndarray((3, 4), nl.float32), np.zeros((3, 4)))


def wide_moving(x):
    tile = nl.zeros((128, 1024), nl.bfloat16)
    nisa.nc_matmul(nl.ndarray((128, 512), nl.float32, nl.psum), tile[:, :128], tile)


@pytest.mark.parametrize(
    ("kernel", "error", "words"),
    [
        (reads_uninitialised, UninitializedReadError, ["never", "tensor_copy"]),
        (reads_outside, OutOfBoundsError, ["dimension 0 of x", "size 3", "min()"]),
        (too_many_partitions, UsageError, ["tall", "256", "128", "Split"]),
        (too_large, CapacityError, ["wide", "4194304 bytes", "Tile"]),
        (hbm_operand, HardwareLimitError, ["tensor_copy", "src", "private_hbm", "Copy it"]),
        (no_tensor, UsageError, ["tensor_copy", "src must be a tensor", "ndarray"]),
        (wide_moving, HardwareLimitError, ["nc_matmul", "1024 columns", "512", "Tile N"]),
    ],
)
def test_an_error_names_the_source_line_and_what_was_wrong(kernel, error, words):
    with pytest.raises(error) as caught:
        nki.simulate(kernel)(X)
    message = str(caught.value)
    last = kernel.__code__.co_firstlineno + len(inspect.getsource(kernel).splitlines()) - 1
    assert message.startswith(f"test_kernel.py:{last}: ")
    assert [word for word in words if word not in message] == []


def test_psum_over_capacity_is_refused_after_recording():
    def kernel(x):
        tiles = [nl.zeros((128, 512), nl.float32, nl.psum) for _ in range(9)]
        total = nl.zeros((128, 512), nl.float32)
        for tile in tiles:
            nisa.tensor_tensor(total, total, tile, nl.add)

    with pytest.raises(CapacityError, match="psum"):
        nki.run_kernel(kernel, (X,))


def test_calls_outside_of_a_kernel_say_so():
    with pytest.raises(UsageError, match=r"@nki\.jit"):
        nl.ndarray((2, 2), nl.float32)


def test_the_groups_of_a_program_are_source_lines():
    run = nki.run_kernel(double, (X,))
    first = double.__code__.co_firstlineno
    wanted = [f"test_kernel.py:{first + n}" for n in (3, 4, 5)]
    assert run.program.groups == wanted
    assert re.search("tensor_scalar", run.program.to_text())


def test_all_errors_are_of_one_tree():
    assert issubclass(CapacityError, EmuronError)
