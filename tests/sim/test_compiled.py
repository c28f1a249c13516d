"""When compiled code is used, and that it is found again."""

from __future__ import annotations

import pytest

from emuron.sim import compiled
from emuron.sim.tracker import TRACKING

pytestmark = pytest.mark.fast


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "emuron"


def keep(cache):
    """Leave what numba leaves of the tracking function when it was compiled."""
    name, _ = compiled._source(TRACKING[0], TRACKING[1:])
    (cache / "__pycache__").mkdir(parents=True)
    (cache / "__pycache__" / f"{name}.track-7.py311.nbi").touch()


def test_a_choice_is_kept_whatever_the_length(cache):
    assert compiled.pays(True, 1, *TRACKING)
    assert not compiled.pays(False, 1 << 40, *TRACKING)


def test_only_long_runs_wait_for_the_compiler(cache):
    pytest.importorskip("numba")
    assert not compiled.pays("auto", compiled._COMPILE_FROM - 1, *TRACKING)
    assert compiled.pays("auto", compiled._COMPILE_FROM, *TRACKING)


def test_shorter_runs_use_what_was_compiled_before(cache):
    pytest.importorskip("numba")
    keep(cache)
    assert compiled.pays("auto", compiled._LOAD_FROM, *TRACKING)
    assert not compiled.pays("auto", compiled._LOAD_FROM - 1, *TRACKING)


def test_code_compiled_from_another_source_does_not_count(cache):
    pytest.importorskip("numba")
    keep(cache)
    assert not compiled.pays("auto", compiled._LOAD_FROM, "track", compiled)
