"""`emuron compile`: writes an artifact and says what it holds."""

from __future__ import annotations

import json

from emuron.compiler import artifact


def test_compile_writes_an_artifact_and_says_how_to_run_it(emuron, folder, tmp_path):
    path = tmp_path / "model.emuron"
    done = emuron("compile", folder, "--seq", 16, "-o", path)
    assert done.code == 0
    assert f"emuron run {path}" in done.out
    assert artifact.is_artifact(path)
    assert (path / "tokenizer.json").is_file()


def test_the_json_has_the_figures_and_the_size(emuron, folder, tmp_path):
    path = tmp_path / "model.emuron"
    found = emuron("compile", folder, "--seq", 16, "-o", path, "--json").json()
    assert found["bytes"] == sum(file.stat().st_size for file in path.iterdir())
    manifest = json.loads((path / artifact.MANIFEST).read_text())
    assert manifest["figures"]["latency_ms"] == found["latency_ms"]


def test_a_folder_that_is_no_artifact_is_never_overwritten(emuron, folder, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    done = emuron("compile", folder, "--seq", 16, "-o", tmp_path)
    assert done.code == 2
    assert "no artifact" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_explain_shows_what_each_pass_did_and_writes_nothing(emuron, folder):
    done = emuron("compile", folder, "--seq", 16, "--explain")
    assert done.code == 0
    for word in ("share_equal_nodes", "values kept in SBUF", "tensor busy"):
        assert word in done.out
    found = emuron("compile", folder, "--seq", 16, "--explain", "--json").json()
    assert [p["pass"] for p in found["passes"]][-1] == "choose_schedule"
    assert "path" not in found


def test_compile_asks_for_a_folder_or_an_explanation(emuron, folder):
    done = emuron("compile", folder)
    assert done.code != 0
    assert "--explain" in done.err
