"""Damaged model files of every format: a clear error, in time and within memory, and no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from emuron.compiler.frontends import hf

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "journeys" / "fixtures"

SECONDS = 60
"""Of all formats together (issue 4)."""

_START_SECONDS = 60


def _safetensors(folder: Path, bert: Any) -> Path:
    model = bert()
    path = folder / "bert"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(dict(model.fields)))
    weights = {p.name: p.load() for p in model.encoder_graph(1, 8).parameters}
    save_file(weights, path / "model.safetensors")
    assert hf.load(path).encoder_graph(1, 8).parameters
    return path


def _onnx(folder: Path, bert: Any) -> Path:
    pytest.importorskip("onnx")
    from tests.journeys.fixtures import onnx_models

    (folder / "encoder.onnx").write_bytes(onnx_models.encoder().SerializeToString())
    return folder / "encoder.onnx"


def _saved_model(folder: Path, bert: Any) -> Path:
    return Path(shutil.copytree(FIXTURES / "tensorflow_cnn", folder / "tensorflow_cnn"))


def _mxnet(folder: Path, bert: Any) -> Path:
    for name in ("mxnet_encoder-symbol.json", "mxnet_encoder-0000.params"):
        shutil.copyfile(FIXTURES / name, folder / name)
    return folder / "mxnet_encoder-symbol.json"


def _exported_program(folder: Path, bert: Any) -> Path:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.LayerNorm(8))
    program = torch.export.export(net.eval(), (torch.zeros(2, 4),))
    torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


FORMATS = (
    pytest.param(_onnx, marks=pytest.mark.onnx, id="onnx"),
    pytest.param(_safetensors, id="safetensors"),
    pytest.param(_saved_model, id="saved_model"),
    pytest.param(_mxnet, id="mxnet"),
    pytest.param(_exported_program, marks=pytest.mark.torch, id="pt2"),
)


@pytest.mark.parametrize("make", FORMATS)
def test_damaged_files_are_refused_with_an_error_of_ours(
    make: Callable[[Path, Any], Path], bert: Any, tmp_path: Path
):
    model = make(tmp_path, bert)
    seconds = SECONDS / len(FORMATS)
    shapes = {"ids": (1, 12)} if make is _mxnet else {}
    command = [sys.executable, "-m", "tests.compiler.frontends.fuzz_model_files"]
    done = subprocess.run(
        [*command, model, str(seconds), json.dumps(shapes)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=seconds + _START_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["faults"] == []
    assert 0 < found["refused"] <= found["cases"]
