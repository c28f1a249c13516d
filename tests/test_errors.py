"""The errors speak to the user."""

from __future__ import annotations

import inspect
import pickle

import pytest

from emuron import errors
from emuron.errors import (
    EmuronError,
    MissingExtraError,
    PromptTooLongError,
    UnknownNameError,
    UsageError,
    missing_extra,
)

ALL = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if cls.__module__ == "emuron.errors" and not issubclass(cls, Warning)
]


@pytest.mark.parametrize("cls", ALL)
def test_every_error_is_an_emuron_error(cls):
    assert issubclass(cls, EmuronError)


@pytest.mark.parametrize("cls", [UnknownNameError, PromptTooLongError])
def test_wrong_arguments_are_usage_errors(cls):
    assert issubclass(cls, UsageError)


def test_an_unknown_name_suggests_the_closest_known_ones():
    error = UnknownNameError("chip", "TRN-2", ["trn1", "trn2", "inf2"])
    assert str(error).startswith("Unknown chip 'TRN-2'. Did you mean trn2")
    assert str(error).endswith("Known: inf2, trn1, trn2.")


def test_an_unknown_name_far_from_all_others_suggests_nothing():
    assert "Did you mean" not in str(UnknownNameError("chip", "gpu", ["trn1", "inf2"]))


def test_an_unknown_name_lists_no_more_names_than_one_reads():
    error = UnknownNameError("op", "x", [f"op{number:02}" for number in range(50)])
    assert "op39 and 10 more." in str(error)
    assert "op40" not in str(error)


def test_an_unknown_name_among_none_says_so():
    assert "No model is known here." in str(UnknownNameError("model", "bert", []))


def test_a_missing_extra_says_how_to_install_it():
    error = MissingExtraError("serve", "emuron serve")
    assert "emuron serve needs the 'serve' extra" in str(error)
    assert "pip install 'emuron[serve]'" in str(error)


def test_a_failed_import_of_an_optional_module_names_its_extra():
    error = missing_extra(ModuleNotFoundError(name="fastapi.responses"), "The server")
    assert error is not None
    assert error.extra == "serve"


def test_a_failed_import_of_any_other_module_names_no_extra():
    assert missing_extra(ModuleNotFoundError(name="fastapy"), "The server") is None
    assert missing_extra(ImportError("no name"), "The server") is None


@pytest.mark.parametrize(
    "error", [UnknownNameError("chip", "trn9", ("trn1",)), MissingExtraError("ray", "The sweep")]
)
def test_errors_travel_between_processes(error):
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
