"""Programs of torch.export in files, and what is refused there."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends.zoo import open_model
from emuron.errors import EmuronError, ModelFileError, UnsupportedOpError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

FLOAT32_ERROR = 2e-6
"""Sums of 4 float32 products in another order, of magnitude up to 4."""

CONFIG = "data/weights/model_weights_config.json"


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Any) -> Any:
        return {"y": torch.relu(self.layer(x)) * self.scale}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "mlp.pt2"
    torch.export.save(torch.export.export(Mlp(), (torch.ones(2, 4),)), path)
    return path


def test_a_program_in_a_file_equals_its_module(saved):
    torch.manual_seed(0)
    module, x = Mlp(), torch.randn(2, 4)
    graph = open_model(str(saved)).graph(1, 128)
    found = Evaluator(graph).run({"x": x.numpy()})
    np.testing.assert_allclose(
        found["y"], module(x)["y"].detach().numpy(), atol=FLOAT32_ERROR, rtol=0
    )
    assert {p.name for p in graph.parameters} == {"layer.weight", "layer.bias", "scale"}


def test_without_weights_a_program_is_made_of_shapes(saved):
    graph = open_model(str(saved), weights=False).graph(1, 128)
    assert all(p.loader is None for p in graph.parameters)


def _rewritten(path: Path, name: str, change: Callable[[Any], None], **how: Any) -> Path:
    """Return a copy of an archive with one JSON entry changed."""
    other = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w", **how) as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith(name):
                described = json.loads(content)
                change(described)
                content = json.dumps(described).encode()
            new.writestr(info.filename, content)
    return other


def test_a_pickled_tensor_is_refused(saved):
    def pickle(config: Any) -> None:
        config["config"]["layer.weight"]["use_pickle"] = True

    with pytest.raises(ModelFileError, match=r"'layer\.weight' is stored as a pickle"):
        open_model(str(_rewritten(saved, CONFIG, pickle))).graph(1, 1)


def test_symbolic_shapes_are_refused_unread(tmp_path):
    path, batch = tmp_path / "dynamic.pt2", torch.export.Dim("batch", min=2, max=9)
    program = torch.export.export(Mlp(), (torch.ones(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    with pytest.raises(UnsupportedOpError, match="static shapes"):
        open_model(str(path)).graph(1, 1)


def test_a_tensor_beyond_its_file_is_refused(saved):
    def enlarge(config: Any) -> None:
        config["config"]["layer.weight"]["tensor_meta"]["sizes"][0]["as_int"] = 1 << 40

    with pytest.raises(ModelFileError, match="reach beyond its 12 elements"):
        open_model(str(_rewritten(saved, CONFIG, enlarge))).graph(1, 1)


def test_another_schema_is_refused(saved):
    def newer(program: Any) -> None:
        program["schema_version"]["major"] = 99

    with pytest.raises(ModelFileError, match="schema version 99"):
        open_model(str(_rewritten(saved, "model.json", newer))).graph(1, 1)


def test_a_compressed_archive_is_refused(saved):
    packed = _rewritten(saved, "none", lambda _: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match="compressed"):
        open_model(str(packed)).graph(1, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EmuronError):
        open_model(str(saved)).graph(1, 1)


def test_a_program_without_an_operator_is_refused(saved):
    def rename(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.nothing.default"

    with pytest.raises(EmuronError, match="nothing"):
        open_model(str(_rewritten(saved, "model.json", rename))).graph(1, 1)
