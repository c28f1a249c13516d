"""`emuron run`: outputs, figures and, for wrong input, one paragraph and an exit code."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emuron.compiler import artifact
from emuron.compiler.compare import compare_outputs
from emuron.compiler.compile import compile_model
from emuron.compiler.frontends import hf
from emuron.numerics.matmul import sums_in_order


def refused(done, code: int, *words: str) -> None:
    """Check for one paragraph on stderr that has the words, and nothing on stdout."""
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err


def test_run_prints_the_outputs_and_the_figures_of_the_instance(emuron, folder):
    done = emuron("run", folder, "--on", "inf2.xlarge", "--seq", 16, "--batch", 2)
    assert done.code == 0
    for word in ("tiny-bert on inf2.xlarge", "Latency", "Throughput", "Memory per core", "MFU"):
        assert word in done.out
    for word in ("On demand", "Reserved", "last_hidden_state", "[2, 16, 64]", "cosine"):
        assert word in done.out


def test_run_gives_the_first_values_of_the_outputs_that_the_library_gives(emuron, folder):
    texts = ("a cat sleeps", "the dog runs")
    arguments = [a for text in texts for a in ("--text", text)]
    found = emuron("run", folder, "--seq", 16, "--batch", 2, *arguments, "--json").json()
    model = hf.load(folder)
    encoding = model.tokenizer().encode_batch(texts, 16)
    inputs = {name: getattr(encoding, name) for name in encoding.__dataclass_fields__}
    expected = compile_model(model, batch=2, sequence=16).run(inputs)["last_hidden_state"]
    output = found["outputs"]["last_hidden_state"]
    assert (output["shape"], output["dtype"]) == ([2, 16, 64], "float32")
    assert output["first"] == [float(x) for x in expected.ravel()[: len(output["first"])]]


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
def test_both_fidelities_are_compared_bit_for_bit(emuron, folder):
    found = emuron("run", folder, "--seq", 16, "--fidelity", "both", "--json").json()
    exact = [c for c in found["comparisons"] if c["against"] == "instruction"]
    assert {c["output"] for c in exact} == set(found["outputs"])
    assert [(c["differing"], c["ulp"]) for c in exact] == [(0, 0)] * len(exact)
    against_float32 = [c for c in found["comparisons"] if c["against"] == "float32"]
    assert all(c["cosine"] > 0.999 and c["differing"] > 0 for c in against_float32)


def test_without_casts_nothing_differs_from_float32(emuron, folder):
    found = emuron("run", folder, "--seq", 16, "--autocast", "none", "--json").json()
    assert {c["differing"] for c in found["comparisons"]} == {0}


def test_the_seed_chooses_the_inputs(emuron, folder):
    seeds = (0, 0, 1)
    firsts = [
        emuron("run", folder, "--seq", 16, "--seed", seed, "--json").json()["outputs"]
        for seed in seeds
    ]
    assert firsts[0] == firsts[1] != firsts[2]


def test_no_data_times_the_shapes_alone_and_as_the_weights_do(emuron, folder):
    shapes = emuron("run", folder, "--seq", 16, "--no-data", "--json").json()
    assert shapes["outputs"] == {}
    assert shapes["latency_ms"] == emuron("run", folder, "--seq", 16, "--json").json()["latency_ms"]


def test_report_and_timeline_are_written_where_asked(emuron, folder, tmp_path):
    page, timeline = tmp_path / "page.html", tmp_path / "timeline.json"
    options = ("--fidelity", "both", "--report", page, "--trace", timeline)
    assert emuron("run", folder, "--seq", 16, *options).code == 0
    assert "against instruction" in page.read_text(encoding="utf-8")
    assert json.loads(timeline.read_text(encoding="utf-8"))["traceEvents"]


def test_an_unknown_instance_is_refused_with_the_closest_names(emuron, folder):
    refused(emuron("run", folder, "--on", "inf2.xlrge"), 2, "inf2.xlrge", "inf2.xlarge")


@pytest.mark.parametrize("name", ["bytes.safetensors", "text.txt"])
def test_a_file_that_is_no_model_is_refused(emuron, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(os.urandom(64) if name.startswith("bytes") else b"no model at all\n")
    refused(emuron("run", path), 1, str(path), "folder")


def test_a_path_that_is_missing_is_refused(emuron, tmp_path):
    refused(emuron("run", tmp_path / "nothing"), 1, "nothing does not exist")


def test_random_bytes_as_weights_are_refused(emuron, folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(256))
    refused(emuron("run", tmp_path), 1, "model.safetensors", "not a whole safetensors file")


def test_a_sequence_beyond_the_positions_is_refused(emuron, folder):
    refused(emuron("run", folder, "--seq", 129), 2, "129", "128 positions")


def test_a_model_beyond_the_memory_is_refused_with_the_numbers(emuron):
    done = emuron("run", "llama-2-70b", "--on", "inf2.xlarge", "--no-data")
    refused(done, 1, "128 GiB", "16.0 GiB", "more memory")


def test_an_operator_without_a_kernel_runs_on_the_host_and_is_named_with_its_source(
    emuron, folder, tmp_path
):
    made = compile_model(hf.load(folder), batch=1, sequence=16)
    path = artifact.save(made, tmp_path / "model.emuron")
    graph = json.loads((path / artifact.GRAPH).read_text())
    gelu = next(node for node in graph["nodes"] if node["op"] == "gelu")
    gelu.update(op="cumulative", attributes={"axis": 1, "kind": "logsumexp"}, source="model.py:17")
    content = json.dumps(graph).encode()
    (path / artifact.GRAPH).write_bytes(content)
    manifest = json.loads((path / artifact.MANIFEST).read_text())
    described = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"][artifact.GRAPH] = described
    (path / artifact.MANIFEST).write_text(json.dumps(manifest))
    done = emuron("run", path)
    assert done.code == 0
    assert "cumulative runs on the host, once (model.py:17)" in " ".join(done.out.split())


def test_texts_are_refused_that_do_not_fit_the_batch_or_the_sequence(emuron, folder):
    two = ("--text", "a cat", "--text", "a dog")
    refused(emuron("run", folder, *two), 2, "2 texts", "the batch has 1")
    long = emuron("run", folder, "--seq", 4, "--text", "a cat sleeps the dog runs")
    refused(long, 2, "8 tokens", "sequence length 4")


def test_text_without_a_tokenizer_or_without_data_is_refused(emuron, folder):
    refused(emuron("run", "bert-base-uncased", "--no-data", "--text", "a cat"), 2, "--no-data")
    refused(emuron("run", "all-minilm-l6-v2", "--text", "a cat"), 2, "tokenizer.json")


def test_other_names_of_fidelities_and_casts_are_refused(emuron, folder):
    refused(emuron("run", folder, "--fidelity", "exact"), 2, "exact", "both")
    refused(emuron("run", folder, "--autocast", "some"), 2, "some", "matmult")


def test_not_a_number_reaches_json_by_name(emuron, folder, monkeypatch):
    from emuron.cli import run

    def broken(*_):
        outputs = {"y": np.array([np.nan, np.inf, 1.0], np.float32)}
        return outputs, compare_outputs("float32", outputs, {"y": np.ones(3, np.float32)})

    monkeypatch.setattr(run, "compute", broken)
    found = emuron("run", folder, "--seq", 16, "--json").json()
    assert found["outputs"]["y"]["first"] == ["nan", "inf", 1.0]


def test_an_artifact_runs_as_the_model_did(emuron, folder, tmp_path):
    path = tmp_path / "model.emuron"
    assert emuron("compile", folder, "--seq", 16, "-o", path).code == 0
    text = ("--text", "a cat sleeps", "--json")
    model, reloaded = emuron("run", folder, "--seq", 16, *text), emuron("run", path, *text)
    assert reloaded.json() == model.json()


def test_an_artifact_keeps_its_options_and_its_target(emuron, folder, tmp_path: Path):
    path = tmp_path / "model.emuron"
    assert emuron("compile", folder, "--seq", 16, "-o", path).code == 0
    refused(emuron("run", path, "--batch", 2), 2, "batch", "compile the model again")
    wrong = emuron("run", path, "--on", "trn1.2xlarge")
    refused(wrong, 1, "compiled for inf2.xlarge", "trn1.2xlarge", "emuron compile MODEL --on")


_WITHOUT_FRAMEWORKS = """
import runpy, sys
for name in ("torch", "jax", "jaxlib", "transformers", "tensorflow"):
    sys.modules[name] = None  # importing it fails
runpy.run_module("emuron", run_name="__main__")
"""


@pytest.mark.onnx
def test_an_onnx_file_runs_without_any_framework(tmp_path):
    pytest.importorskip("onnx")
    from tests.journeys.fixtures import onnx_models

    path = tmp_path / "encoder.onnx"
    path.write_bytes(onnx_models.encoder().SerializeToString())
    command = [sys.executable, "-c", _WITHOUT_FRAMEWORKS, "run", path, "--on", "inf2.xlarge"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == "encoder"
    assert found["latency_ms"] > 0
    assert all(c["cosine"] > 0.999 for c in found["comparisons"])


FIXTURES = Path(__file__).parents[1] / "journeys" / "fixtures"


def test_a_saved_model_runs_and_reports(emuron):
    done = emuron("run", FIXTURES / "tensorflow_encoder", "--seq", 12, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["outputs"]["hidden"]["shape"] == [1, 12, 32]
    assert found["latency_ms"] > 0


def test_a_symbol_runs_with_the_shapes_that_it_leaves_open(emuron):
    symbol = FIXTURES / "mxnet_encoder-symbol.json"
    done = emuron("run", symbol, "--shape", "ids=2,12", "--json")
    assert done.code == 0
    assert json.loads(done.out)["outputs"]["output"]["shape"] == [2, 12, 32]
    refused(emuron("run", symbol), 1, "does not say the shape of its input 'ids'")
    refused(emuron("run", symbol, "--shape", "ids"), 2, "--shape ids is not of the form")
