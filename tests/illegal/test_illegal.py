"""Illegal kernels: each documented rule, broken, gives its own error; none passes silently."""

import inspect
import re
import warnings
from pathlib import Path

import pytest

from emuron.errors import EmuronError
from emuron.nki.kernel import Kernel
from emuron.nki.launch import run_kernel
from emuron.nki.versions import strict
from tests.illegal import (
    cores,
    data,
    dma,
    gpsimd_engine,
    language,
    memory,
    registers,
    scalar_engine,
    tensor_engine,
    vector_engine,
    vector_reductions,
    vector_selects,
    views,
)

AREAS = (
    memory,
    views,
    tensor_engine,
    vector_engine,
    vector_reductions,
    vector_selects,
    scalar_engine,
    gpsimd_engine,
    dma,
    registers,
    cores,
    language,
    data,
)
CASES = [case for area in AREAS for case in area.TABLE.cases]


def launch(case, execute):
    kernel = Kernel(case.kernel, case.cores if case.cores > 1 else None)
    with warnings.catch_warnings(), strict(case.version):
        warnings.simplefilter("ignore", DeprecationWarning)  # forms of earlier versions
        run_kernel(kernel, [], target=case.target, execute=execute)


@pytest.mark.parametrize("execute", [True, False], ids=["run", "recorded"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_illegal_kernel_is_refused_in_its_own_words(case, execute):
    if case.runs and not execute:
        pytest.skip("only its data show that it is illegal")
    with pytest.raises(EmuronError) as caught:
        launch(case, execute)
    message = str(caught.value)
    assert type(caught.value) is case.error, message
    place = _place_of(case)
    if case.is_placed:
        found = re.match(rf"{re.escape(place[0])}:(\d+)( \(core \d\))?: ", message)
        assert found is not None, message
        assert int(found[1]) in place[1], message
    assert _says(message, case.says), f"{message}\ndoes not say, in this order, {case.says}"


def _place_of(case):
    """Return the file of a case's kernel and the range of its lines."""
    lines, first = inspect.getsourcelines(case.kernel)
    return Path(inspect.getfile(case.kernel)).name, range(first, first + len(lines))


def _says(message, parts):
    """Return whether a message has all parts, in their order."""
    return re.search(".*".join(map(re.escape, parts)), message, re.DOTALL) is not None


def test_every_case_says_what_where_and_the_way_out():
    """Its rule is a sentence with a source, and its message has three parts at least."""
    for case in CASES:
        assert case.rule.endswith("."), case.name
        assert case.source, case.name
        assert len(case.says) >= 3, case.name


def test_there_is_a_case_for_each_kind_of_limit():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
