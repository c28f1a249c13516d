"""Artifacts: what is saved comes back the same, and what is damaged does not come back."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import emuron
from emuron.compiler import artifact
from emuron.compiler.compile import CompiledModel, compile_model
from emuron.compiler.graph import Graph, NodeBuilder, to_text
from emuron.compiler.ops import OPS
from emuron.errors import ModelFileError, UnknownNameError, UsageError, WrongTargetError
from emuron.numerics.dtypes import dtype


@pytest.fixture(scope="module")
def model(bert: Callable) -> CompiledModel:
    return compile_model(bert(), batch=2, sequence=16)


@pytest.fixture
def saved(model: CompiledModel, tmp_path: Path) -> Path:
    return artifact.save(model, tmp_path / "model.emuron")


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    """Change graph.json and describe it rightly in the manifest."""
    graph = json.loads((path / artifact.GRAPH).read_text())
    change(graph)
    content = json.dumps(graph).encode()
    (path / artifact.GRAPH).write_bytes(content)
    manifest = json.loads((path / artifact.MANIFEST).read_text())
    described = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"][artifact.GRAPH] = described
    (path / artifact.MANIFEST).write_text(json.dumps(manifest))


def test_a_reloaded_model_gives_the_same_bits_and_figures(model, saved, inputs_of):
    reloaded = emuron.load(saved)
    assert to_text(reloaded.graph) == to_text(model.graph)
    assert reloaded.summary() == model.summary()
    inputs = inputs_of(model.graph)
    for name, array in model.run(inputs).items():
        np.testing.assert_array_equal(reloaded.run(inputs)[name], array)


def test_a_decoder_keeps_the_aliases_of_its_caches(llama, inputs_of, tmp_path):
    model = compile_model(llama(torch_dtype="bfloat16"), sequence=16, task="decode")
    reloaded = artifact.load(artifact.save(model, tmp_path / "decode.emuron"))
    assert reloaded.graph.aliases == model.graph.aliases != {}
    assert {p.type.dtype for p in reloaded.graph.parameters} == {
        p.type.dtype for p in model.graph.parameters
    }
    inputs = inputs_of(model.graph, start=3)
    for name, array in model.run(inputs).items():
        np.testing.assert_array_equal(reloaded.run(inputs)[name], array)


def test_the_parameters_are_a_safetensors_file_that_others_read(model, saved):
    stored = load_file(saved / artifact.PARAMETERS)
    assert stored.keys() == {p.name for p in model.graph.parameters}
    for parameter in model.graph.parameters:
        np.testing.assert_array_equal(stored[parameter.name], parameter.load())


def test_the_manifest_says_what_was_compiled_for_what(model, saved):
    manifest = json.loads((saved / artifact.MANIFEST).read_text())
    assert manifest["target"] == {"instance": "inf2.xlarge", "chip": "inferentia2", "core": "v2"}
    assert manifest["inputs"]["input_ids"] == "int32[2,16]"
    assert manifest["options"]["autocast"] == "matmult"
    assert manifest["figures"]["device_ms"] == pytest.approx(model.timing.total_ps / 1e9)
    for name, described in manifest["files"].items():
        content = (saved / name).read_bytes()
        assert described["bytes"] == len(content)
        assert described["sha256"] == hashlib.sha256(content).hexdigest()
    assert (saved / artifact.PROGRAM).read_text().startswith("program ")


def test_every_operator_comes_back_with_its_attributes():
    for name, cls in OPS.items():
        for example in cls.examples() if name != "kernel_call" else ():
            attributes = {k: artifact._plain(v) for k, v in example.op.attributes().items()}
            read = json.loads(json.dumps(attributes))
            made = cls(**{k: artifact._attribute(v) for k, v in read.items()})
            assert _readable(made.attributes()) == _readable(example.op.attributes())


def _readable(value):
    """Bodies are graphs, of which each is equal to itself alone: compare their texts."""
    if isinstance(value, dict):
        return {k: _readable(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_readable(v) for v in value)
    return to_text(value) if isinstance(value, Graph) else value


def test_a_kernel_written_in_python_is_refused(tmp_path):
    example = OPS["kernel_call"].examples()[0]
    b = NodeBuilder("custom")
    operands = [b.input(f"x{i}", t) for i, t in enumerate(example.types)]
    b.output("y", b.append(example.op, *operands)[0])
    model = compile_model(b.finish())
    with pytest.raises(UsageError, match="a kernel written in Python"):
        artifact.save(model, tmp_path / "kernel.emuron")
    assert not (tmp_path / "kernel.emuron").exists()


def test_loading_imports_no_framework(saved):
    script = (
        "import sys, emuron; model = emuron.load(sys.argv[1]); model.summary(); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(saved)], check=False)
    assert done.returncode == 0


def test_another_target_is_refused_by_name(saved):
    with pytest.raises(WrongTargetError, match=r"for inf2\.xlarge, not for trn1\.2xlarge.*--on"):
        emuron.load(saved, on="trn1.2xlarge")
    with pytest.raises(UnknownNameError, match="inf9"):
        emuron.load(saved, on="inf9.xlarge")
    assert emuron.load(saved, on="inf2.xlarge").instance.name == "inf2.xlarge"


def test_an_earlier_artifact_is_replaced_and_leaves_nothing_beside(model, saved):
    (saved / "stale.txt").write_text("of the earlier one")
    artifact.save(model, saved)
    assert not (saved / "stale.txt").exists()
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("kind", ["file", "empty", "full"])
def test_what_is_no_artifact_is_not_overwritten(model, tmp_path, kind):
    path = tmp_path / "mine"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    if kind == "full":
        (path / "precious.txt").write_text("precious")
    with pytest.raises(UsageError, match="no artifact"):
        artifact.save(model, path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_save_that_fails_leaves_the_earlier_artifact_and_nothing_else(bert, saved):
    from emuron.compiler.frontends.hf import from_config

    shapes = compile_model(from_config(bert().fields, name="shapes"), sequence=16)
    before = (saved / artifact.MANIFEST).read_bytes()
    with pytest.raises(UsageError, match="no data"):
        artifact.save(shapes, saved)
    assert (saved / artifact.MANIFEST).read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("name", [artifact.GRAPH, artifact.PARAMETERS])
def test_a_changed_or_shortened_file_is_refused(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{name}.*changed"):
        artifact.load(saved)
    (saved / name).write_bytes(content[:-1])
    with pytest.raises(ModelFileError, match=f"{name}.*not whole"):
        artifact.load(saved)


@pytest.mark.parametrize("name", [artifact.MANIFEST, artifact.GRAPH, artifact.PARAMETERS])
def test_a_missing_file_is_refused(saved, name):
    (saved / name).unlink()
    with pytest.raises(ModelFileError, match=name):
        artifact.load(saved)


def test_a_folder_that_is_no_artifact_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="no artifact"):
        artifact.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 99),
        ("target", "inf2.xlarge"),
        ("target", {"instance": "inf9.xlarge"}),
        ("options", {"batch": 0, "autocast": "none", "autocast_type": "bf16"}),
        ("options", {"batch": 1, "autocast": "some", "autocast_type": "bf16"}),
        ("options", []),
        ("files", {}),
        ("files", None),
        ("name", None),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(saved, field, value):
    manifest = json.loads((saved / artifact.MANIFEST).read_text())
    manifest[field] = value
    if field == "name":
        del manifest["name"]
    (saved / artifact.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError):
        artifact.load(saved)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1, "format": 1}', "\xff"])
def test_a_manifest_that_is_no_json_object_is_refused(saved, text):
    (saved / artifact.MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFileError):
        artifact.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g.pop("nodes"),
        lambda g: g["nodes"][0].update(op="nonsense"),
        lambda g: g["nodes"][0].update(inputs=["nowhere"]),
        lambda g: g["nodes"][0]["attributes"].update(extra=1),
        lambda g: g["nodes"][-1]["outputs"][0].update(shape=[1]),
        lambda g: g["nodes"][-1]["outputs"][0].update(shape=[-1]),
        lambda g: g["parameters"][0].update(shape=[3]),
        lambda g: g["parameters"][0].update(name="unknown"),
        lambda g: g["inputs"][0].update(dtype="float99"),
        lambda g: g["inputs"].__setitem__(0, 7),
        lambda g: g.update(outputs={"y": "nowhere"}),
        lambda g: g.update(aliases={"0": 99}),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(saved, change):
    rewrite(saved, change)
    with pytest.raises(ModelFileError):
        artifact.load(saved)


def test_every_stored_dtype_has_a_name_in_the_file_format():
    from emuron.compiler.frontends.weights import _DTYPES

    assert {v: k for k, v in _DTYPES.items()} == dict(artifact._STORED_NAMES)
    assert all(dtype(name) for name in artifact._STORED_NAMES if name != "float64")
