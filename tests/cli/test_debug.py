"""`emuron debug`: layers, the first that drifts, and its casts."""

from __future__ import annotations

import numpy as np


def test_debug_names_the_layer_and_the_cast(emuron, folder):
    done = emuron("debug", folder, "--seq", 16, "--bound", "0.001")
    assert done.code == 0
    for word in ("encoder.layer.0.attention", "First beyond 0.001", "float32", "bfloat16", "◀"):
        assert word in done.out


def test_debug_says_when_nothing_drifts(emuron, folder):
    done = emuron("debug", folder, "--seq", 16, "--autocast", "none")
    assert done.code == 0
    assert "No layer drifts" in done.out


def test_debug_as_json_holds_every_node(emuron, folder):
    found = emuron("debug", folder, "--seq", 16, "--bound", "0.001", "--json").json()
    assert found["first"]["drift"] > 0.001
    assert found["casts"][0]["to_dtype"] == "bfloat16"
    assert len(found["nodes"]) > len(found["layers"]) > 3


def test_debug_against_captured_values(emuron, folder, tmp_path):
    report = emuron("debug", folder, "--seq", 16, "--json").json()
    layer = report["layers"][1]["layer"]
    np.savez(tmp_path / "captured.npz", **{layer: np.zeros((1, 16, 64), np.float32)})
    done = emuron("debug", folder, "--seq", 16, "--against", tmp_path / "captured.npz")
    assert f"in {layer}" in done.out
    assert "First beyond" in done.out


def test_a_file_that_is_no_archive_or_holds_pickles_is_refused(emuron, folder, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "pickled.npz", layer=objects)
    for name in ("bad.npz", "pickled.npz", "absent.npz"):
        done = emuron("debug", folder, "--seq", 16, "--against", tmp_path / name)
        assert done.code == 2
        assert "no .npz file of plain arrays" in done.err


def test_debug_writes_a_page(emuron, folder, tmp_path):
    page = tmp_path / "debug.html"
    emuron("debug", folder, "--seq", 16, "--bound", "0.001", "--report", page)
    text = page.read_text(encoding="utf-8")
    assert "First beyond 0.001" in text
    assert "Casts of" in text
