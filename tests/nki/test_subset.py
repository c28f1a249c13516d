"""Python that the compilers of NKI 0.2 to 0.6 refuse: found by line, as warnings or errors."""

from __future__ import annotations

import enum
import inspect
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import SubsetError, UnknownNameError
from emuron.nki.subset import SUBSET_VARIABLE, SubsetWarning, check
from emuron.nki.subset_rules import RULES

A = np.ones((2, 4), np.float32)


@dataclass
class Plain:
    x: int = 1


@dataclass(frozen=True)
class Proper(nl.NKIObject):
    x: int = 1


class Kind(enum.Enum):
    one = 1


def copied(a):
    made = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=made, src=a)
    return made


def identity_test(a):
    if a is A:
        return None
    return copied(a)


def none_test(a, b=None):
    return copied(a) if b is None or b is not None else None


def generators(a):
    sum(i for i in range(3))
    return copied(a)


def keyword_only(a, *, b=1):
    return copied(a)


def list_default(a, b=[1]):  # noqa: B006
    return copied(a)


def plain_class(a):
    Plain(2)
    return copied(a)


def local_class(a):
    class Local:
        pass

    return copied(a)


def two_bases(a):
    class Both(nl.NKIObject, Plain):
        pass

    return copied(a)


def proper_classes(a):
    class Local(nl.NKIObject):
        x: int = 1

    Proper(2), Local(3), Kind(1)
    return copied(a)


def number_keys(a):
    {1: 2}  # noqa: B018
    return copied(a)


def string_keys(a):
    {"1": 2, **{}}  # noqa: B018, PIE800
    return copied(a)


def sets(a):
    {1, 2}  # noqa: B018
    return copied(a)


def wide_integer(a):
    0x1_0000_0000  # noqa: B018
    return copied(a)


def widest_integer(a):
    0xFFFF_FFFF  # noqa: B018
    return copied(a)


def names_a_global(a):
    global A
    A = A
    return copied(a)


def divides(a):
    nl.divide(a, 2.0)
    return copied(a)


def remainders(a):
    nl.fmod(a, 2.0)
    return copied(a)


def powers(a):
    nl.power(a, 2.0)
    return copied(a)


def multiplies(a):
    nl.matmul(a, a)
    return copied(a)


def multiplies_transposed(a):
    nl.matmul(a, a, transpose_x=True)
    return copied(a)


def of_the_first_nki(a):
    nl.arange(4)
    return copied(a)


def masks(a):
    nl.load(a, mask=a)
    return copied(a)


FOUND = [
    (identity_test, "is", 1),
    (generators, "generator", 1),
    (keyword_only, "keyword only", 0),
    (list_default, "list argument", 0),
    (plain_class, "class", 1),
    (local_class, "class", 1),
    (two_bases, "class", 1),
    (number_keys, "dict key", 1),
    (sets, "set", 1),
    (wide_integer, "value", 1),
    (names_a_global, "global", 1),
    (divides, "divide", 1),
    (remainders, "mod", 1),
    (powers, "power", 1),
    (multiplies, "matmul", 1),
    (of_the_first_nki, "legacy", 1),
    (masks, "mask", 1),
]


@pytest.mark.parametrize(("function", "rule", "line"), FOUND)
def test_a_construct_is_found_at_its_line(function, rule, line):
    (finding,) = check(function)
    assert finding.rule is RULES[rule]
    assert finding.file == __file__
    assert finding.line == inspect.getsourcelines(function)[1] + line
    text = str(finding)
    assert text.startswith(f"test_subset.py:{finding.line}: {finding.rule.construct}")
    assert f"NKI {finding.rule.first}" in text
    assert text.endswith(finding.rule.way_out)


def test_every_rule_about_source_has_its_example():
    assert {rule for _, rule, _ in FOUND} == set(RULES) - {"no arguments"}


@pytest.mark.parametrize(
    "function",
    [
        copied,
        none_test,
        proper_classes,
        string_keys,
        widest_integer,
        multiplies_transposed,
        nki.jit(copied),
    ],
)
def test_what_the_compiler_takes_is_not_found(function):
    assert check(function) == []


def calls(a):
    return generators(a)


@nki.jit
def calls_a_kernel(a):
    return wrapped(a)


wrapped = nki.jit(identity_test)


class Accumulator(nl.NKIObject):
    def add(self, values):
        return sum(v for v in values)

    @staticmethod
    def none(a):
        return a is None


def calls_a_method(a):
    Accumulator().add([1, 2])
    return copied(a)


def test_the_methods_of_classes_are_looked_at_too():
    (finding,) = check(calls_a_method)
    assert finding.rule is RULES["generator"]
    assert finding.line == inspect.getsourcelines(Accumulator.add)[1] + 1


@pytest.mark.parametrize(("outer", "inner"), [(calls, generators), (calls_a_kernel, identity_test)])
def test_called_functions_are_looked_at_too(outer, inner):
    (finding,) = check(outer)
    assert finding.line == inspect.getsourcelines(inner)[1] + 1


def test_the_arguments_of_a_launch_count():
    constructs = [f.rule.construct for f in check(copied, [[1, 2]])]
    assert constructs == [RULES["list argument"].construct]
    assert [f.rule for f in check(copied, [])] == [RULES["no arguments"]]
    assert check(copied, [(1, 2)]) == []


@pytest.mark.parametrize(
    ("version", "count"), [("0.2", 0), ("0.3", 1), ("0.6", 1), ("0.7", 0), (None, 1)]
)
def test_a_held_kernel_gets_the_findings_of_its_version(version, count):
    with nki.strict(version):
        assert len(check(identity_test)) == count


def test_findings_are_warnings_errors_or_nothing():
    run = nki.simulate(identity_test)
    assert run(A + 1).tolist() == (A + 1).tolist()
    with nki.check_subset("warn"), pytest.warns(SubsetWarning, match="Compare with ==") as told:
        run(A + 1)
    assert told[0].filename == __file__
    message = r"test_subset\.py:\d+: `is` with anything but None is refused .* \(NKI 0\.3 to 0\.6\)"
    with nki.check_subset("error"), pytest.raises(SubsetError, match=message):
        run(A + 1)
    with nki.check_subset("error"):
        nki.simulate(copied)(A)


def test_the_environment_asks_too(monkeypatch):
    monkeypatch.setenv(SUBSET_VARIABLE, "error")
    with pytest.raises(SubsetError, match="generator"):
        nki.simulate(generators)(A)
    with nki.check_subset("off"):
        nki.simulate(generators)(A)
    monkeypatch.setenv(SUBSET_VARIABLE, "always")
    with pytest.raises(UnknownNameError, match="way to treat findings"):
        nki.simulate(copied)(A)


def test_a_kernel_without_source_is_left_alone():
    scope = {"copied": copied}
    exec("def kernel(a):\n    return copied(a) if a is copied else copied(a)\n", scope)
    with warnings.catch_warnings():
        assert check(scope["kernel"]) == []
    assert check(max) == []
