"""`emuron profile`: the load of the engines and the time of the layers."""

from __future__ import annotations

import gzip
import json

import pytest


def test_profile_shows_engines_layers_and_what_bounds_the_run(emuron, folder, tmp_path):
    done = emuron("profile", folder, "--seq", 16, "--output", tmp_path / "out")
    assert done.code == 0
    for word in ("Engines", "tensor", "vector", "Where the time goes", "bound", "Memory per core"):
        assert word in done.out
    assert "encoder.layer.*.attention" in done.out
    assert "<html" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    with gzip.open(tmp_path / "out" / "timeline.json.gz") as file:
        assert json.load(file)["traceEvents"]


def test_the_shares_of_all_groups_add_up_to_the_run(emuron, folder, tmp_path):
    found = emuron("profile", folder, "--seq", 16, "--output", tmp_path, "--json").json()
    assert sum(group["share"] for group in found["groups"]) == pytest.approx(1)
    device_ps = found["device_ms"] * 1e9
    assert sum(group["share_ps"] for group in found["groups"]) == pytest.approx(device_ps, abs=10)
    assert found["bound_by"] in {queue["kind"] for queue in found["queues"]} | {"latency"}


def test_profile_needs_no_weights(emuron, folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    done = emuron("profile", tmp_path, "--seq", 16, "--output", tmp_path / "out", "--json")
    assert done.code == 0


def test_an_output_that_is_a_file_is_refused(emuron, folder, tmp_path):
    (tmp_path / "out").write_text("a file")
    done = emuron("profile", folder, "--seq", 16, "--output", tmp_path / "out")
    assert done.code == 2
    assert "cannot be made a folder" in done.err
