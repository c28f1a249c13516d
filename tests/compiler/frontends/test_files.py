"""Opening what lies at a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from emuron.compiler.frontends.files import open_path
from emuron.errors import ModelFileError


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_a_pickle_is_refused_by_its_name_and_not_opened(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch hurt'\ntR.")
    with pytest.raises(ModelFileError, match=f"{name} is a pickle .* safetensors"):
        open_path(tmp_path / name)


def test_another_ending_lists_those_that_are_read(tmp_path: Path):
    (tmp_path / "model.txt").write_text("no model")
    with pytest.raises(ModelFileError, match=r"ends in \.onnx, \.pt2"):
        open_path(tmp_path / "model.txt")
