"""Calls that do not fit a function: an error of ours that is also a TypeError."""

import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UsageError, WrongCallError
from emuron.nki.kernel import Kernel
from emuron.nki.launch import run_kernel


def test_it_is_a_type_error_too_and_shows_the_signature():
    def kernel():
        nisa.memset(nl.ndarray((4, 4), nl.float32), 0, colour="red")

    with pytest.raises(TypeError, match=r"It takes memset\(dst, value, engine, name\)") as caught:
        run_kernel(Kernel(kernel))
    assert isinstance(caught.value, WrongCallError)
    assert str(caught.value).startswith("test_wrong_calls.py:")


def test_a_type_error_of_the_kernel_itself_is_left_alone():
    def kernel():
        return len(3)

    with pytest.raises(TypeError, match="has no len") as caught:
        run_kernel(Kernel(kernel))
    assert not isinstance(caught.value, UsageError)


def test_a_function_of_the_kernel_with_a_wrong_call_is_left_alone():
    def helper(x):
        return x

    def kernel():
        helper()

    with pytest.raises(TypeError, match="helper") as caught:
        run_kernel(Kernel(kernel))
    assert not isinstance(caught.value, UsageError)
