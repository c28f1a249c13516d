"""What kernels take and give: containers, objects, frameworks, updates in place."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UsageError

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def doubled(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.multiply(nl.load(x), 2.0))
    return out


def add_one(x):
    nl.store(x, nl.add(nl.load(x), 1.0))


Pair = namedtuple("Pair", "first second")


@dataclass(frozen=True)
class Frozen:
    x: object
    factor: float = 1.0
    inner: list = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    x: object


class Settings(nl.NKIObject):
    x: object
    name: str = "default"


class Mode(enum.Enum):
    fast = 1


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        (lambda: [X], lambda a: a[0]),
        (lambda: (1, (X,)), lambda a: a[1][0]),
        (lambda: {"a": {"b": X}}, lambda a: a["a"]["b"]),
        (lambda: Pair(X, 2), lambda a: a.first),
        (lambda: Frozen(X), lambda a: a.x),
        (lambda: Frozen(None, inner=[X]), lambda a: a.inner[0]),
        (lambda: Slotted(X), lambda a: a.x),
        (lambda: Settings(x=X), lambda a: a.x),
    ],
)
def test_arrays_inside_of_containers_and_objects_become_tensors(given, inside):
    seen = []

    def kernel(argument):
        seen.append(argument)
        return doubled(inside(argument))

    argument = given()
    assert nki.simulate(kernel)(argument).tolist() == (X * 2).tolist()
    assert type(seen[0]) is type(argument)
    assert inside(argument) is X  # the caller's own object is left alone


@pytest.mark.parametrize(
    "value",
    [
        3,
        2.5,
        None,
        "weights.npy",
        Mode.fast,
        (1, 2),
        [1],
        {"k": 1},
        Frozen(1),
        Settings(x=1),
        Frozen,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_no_array_is_passed_as_it_is(value):
    seen = []

    def kernel(x, value):
        seen.append(value)
        return doubled(x)

    nki.simulate(kernel)(X, value)
    nki.simulate(kernel)(X, value=value)
    assert seen[0] is value
    assert seen[1] is value


def test_one_array_given_twice_is_one_tensor():
    def kernel(a, b, both):
        assert a.tensor is b.tensor is both[0].tensor
        return doubled(a)

    nki.simulate(kernel)(X, X, [X])


def test_tensors_are_named_for_the_parameters_they_came_by():
    names = []

    def kernel(first, rest, *, last):
        names.extend([first.name, rest["k"][0].name, last.name])

    nki.simulate(kernel)(X, {"k": [X + 1]}, last=X + 2)
    assert names == ["first", "rest['k'][0]", "last"]


@pytest.mark.parametrize(
    ("give", "take"),
    [
        (lambda o: None, lambda got: got is None),
        (lambda o: o, lambda got: got.tolist() == (X * 2).tolist()),
        (lambda o: (o,), lambda got: got[0].tolist() == (X * 2).tolist()),
        (lambda o: [o, 7], lambda got: got[1] == 7 and isinstance(got[0], np.ndarray)),
        (lambda o: {"o": o}, lambda got: isinstance(got["o"], np.ndarray)),
        (lambda o: Pair(o, None), lambda got: isinstance(got.first, np.ndarray)),
        (lambda o: Frozen(o), lambda got: isinstance(got.x, np.ndarray)),
        (lambda o: o[0:1, :], lambda got: got.tolist() == (X[:1] * 2).tolist()),
    ],
)
def test_outputs_come_in_the_form_that_the_kernel_returns(give, take):
    assert take(nki.simulate(lambda x: give(doubled(x)))(X))


def test_an_input_can_be_an_output():
    def kernel(x):
        add_one(x)
        return x

    given = X.copy()
    assert nki.simulate(kernel)(given).tolist() == given.tolist() == (X + 1).tolist()


@pytest.mark.parametrize(
    "view", [lambda a: a, lambda a: a.T, lambda a: a[::2], lambda a: a[:, 1:3], lambda a: a[::-1]]
)
def test_any_view_of_an_array_is_updated_in_place(view):
    base = np.arange(24, dtype=np.float32).reshape(6, 4)
    expected = base.copy()
    view(expected)[...] += 1
    nki.simulate(add_one)(view(base))
    assert base.tolist() == expected.tolist()


def test_arrays_that_are_only_read_may_be_read_only():
    given = X.copy()
    given.flags.writeable = False
    assert nki.simulate(doubled)(given).tolist() == (X * 2).tolist()
    with pytest.raises(UsageError, match="argument x, which is read-only"):
        nki.simulate(add_one)(given)


def test_a_marked_argument_is_given_by_its_plain_name():
    given = X.copy()
    nki.simulate(add_one)(**{"x.must_alias_input": given})
    assert given.tolist() == (X + 1).tolist()


def test_booleans_come_back_as_booleans():
    given = np.array([[True, False], [False, True]])

    def kernel(x):
        out = nl.ndarray(x.shape, nl.bool_, buffer=nl.shared_hbm)
        nisa.dma_copy(out, x)
        return out

    made = nki.simulate(kernel)(given)
    assert made.dtype == np.bool_
    assert made.tolist() == given.tolist()


@pytest.mark.torch
def test_torch_tensors_are_updated_in_place_also_as_parameters_of_a_model():
    torch = pytest.importorskip("torch")
    for given in (torch.zeros(2, 3), torch.nn.Parameter(torch.zeros(2, 3)), torch.zeros(3, 2).T):
        nki.simulate(add_one)(given)
        assert given.detach().tolist() == [[1.0] * 3] * 2


@pytest.mark.torch
def test_outputs_are_of_the_framework_of_the_inputs_even_beside_numpy():
    torch = pytest.importorskip("torch")
    made = nki.simulate(lambda table, x: doubled(x))(X, torch.ones(2, 2))
    assert isinstance(made, torch.Tensor)


@pytest.mark.jax
def test_jax_arrays_in_jax_arrays_out():
    jax = pytest.importorskip("jax")
    given = jax.numpy.arange(6, dtype=jax.numpy.bfloat16).reshape(2, 3)
    made = nki.simulate(doubled)(given)
    assert isinstance(made, jax.Array)
    assert made.dtype == jax.numpy.bfloat16
    assert made.tolist() == (given * 2).tolist()


@pytest.mark.jax
def test_a_jax_array_that_is_written_must_be_returned():
    jax = pytest.importorskip("jax")
    given = jax.numpy.zeros((2, 3))

    def returns(x):
        add_one(x)
        return x

    assert nki.simulate(returns)(given).tolist() == [[1.0] * 3] * 2
    assert given.tolist() == [[0.0] * 3] * 2
    with pytest.raises(UsageError, match="argument x, and JAX arrays never change"):
        nki.simulate(add_one)(given)


@pytest.mark.jax
def test_jax_dtypes_name_dtypes():
    jax = pytest.importorskip("jax")

    def kernel(x, dtype):
        out = nl.ndarray(x.shape, dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(out, x)
        return out

    assert nki.simulate(kernel)(X, jax.numpy.bfloat16).dtype == jax.numpy.bfloat16


def doubled_fp8(x):
    """Double an argument in place and return a new tensor of the dtype that it has here."""
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(tile, x)
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, tile)
    nisa.dma_copy(x, tile)
    return out


@pytest.mark.parametrize(("target", "inside"), [("trn2", "float8_e4m3"), ("trn3", "float8_e4m3fn")])
def test_fp8_of_the_ocp_becomes_that_of_the_chip(target, inside):
    # Release notes of NKI 0.2: inputs of float8_e4m3fn are converted to float8_e4m3.
    x = np.array([[0.5, -1.75, 120, 0.001953125]]).astype("float8_e4m3fn")
    out = nki.simulate(doubled_fp8, target=target)(x)
    assert str(out.dtype) == inside
    assert out.astype(float).tolist() == x.astype(float).tolist() == [[1, -3.5, 240, 0.00390625]]


def test_fp8_beyond_the_chips_range_is_infinite():
    x = np.array([[448, 1]]).astype("float8_e4m3fn")
    assert nki.simulate(doubled_fp8, target="trn2")(x).astype(float).tolist() == [[np.inf, 2]]


@pytest.mark.torch
def test_torch_gets_fp8_of_the_ocp():
    torch = pytest.importorskip("torch")
    x = torch.tensor([[0.5, -3.0]]).to(torch.float8_e4m3fn)
    out = nki.simulate(doubled_fp8, target="trn2")(x)
    assert out.dtype == torch.float8_e4m3fn
    assert out.float().tolist() == x.float().tolist() == [[1, -6]]
