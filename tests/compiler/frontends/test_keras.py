"""Keras files, against Keras itself on JAX."""

from __future__ import annotations

import importlib.util
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.errors import ModelFileError, UnknownNameError, UnsupportedOpError

pytestmark = [pytest.mark.jax, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("jax")
if importlib.util.find_spec("keras") is None:  # importing it would choose its back end
    pytest.skip("the package keras is not installed", allow_module_level=True)

from emuron.compiler.frontends import keras as frontend  # noqa: E402

keras = frontend.keras
layers = keras.layers
FLOAT32_ERROR = 1e-5
"""Sums of up to 72 float32 products in another order, on values up to 4."""


def _encoder() -> Any:
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(40, 32)(ids)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
    inner = layers.Dense(64, activation="gelu")(x)
    return keras.Model(ids, x + layers.Dropout(0.1)(layers.Dense(32)(inner)), name="encoder")


def _cnn() -> Any:
    images = keras.Input((16, 16, 3), name="images")
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(images))
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    x = layers.SeparableConv2D(16, 3, strides=2, padding="same", activation="swish")(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(layers.AveragePooling2D(2)(x))
    return keras.Model(images, layers.Dense(10, activation="softmax")(x), name="cnn")


def _recurrent() -> Any:
    steps = keras.Input((5, 4), name="steps")
    x = layers.GRU(3)(layers.LSTM(6, return_sequences=True)(steps))
    return keras.Model(steps, x, name="recurrent")


def _saved(make: Any, path: Path) -> Any:
    keras.utils.set_random_seed(0)
    model = make()
    model.save(path)
    return model


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("make", [_cnn, _recurrent])
def test_a_file_gives_what_keras_gives(make, ending, tmp_path):
    path = tmp_path / f"model.{ending}"
    model = _saved(make, path)
    graph = frontend.load(path).graph(2)
    (value,) = graph.inputs
    x = np.random.default_rng(0).standard_normal(value.shape).astype(np.float32)
    (found,) = Evaluator(graph).run({value.name: x}).values()
    np.testing.assert_allclose(found, np.asarray(model(x)), atol=FLOAT32_ERROR, rtol=0)


def test_an_encoder_arrives_whole(tmp_path):
    path = tmp_path / "model.keras"
    model = _saved(_encoder, path)
    graph = frontend.load(path).graph(2, 7)
    names = Counter(n.op.name for n in graph.nodes)
    whole = {"attention": 1, "layer_norm": 1, "gelu": 1, "linear": 6, "matmul": 0}
    assert {n: names[n] for n in whole} == whole
    ids = np.random.default_rng(0).integers(0, 40, (2, 7)).astype(np.int32)
    (found,) = Evaluator(graph).run({"ids": ids}).values()
    np.testing.assert_allclose(found, np.asarray(model(ids)), atol=FLOAT32_ERROR, rtol=0)
    shapes = frontend.load(path, weights=False).graph(2, 7)
    assert all(p.loader is None for p in shapes.parameters)
    with pytest.raises(UnknownNameError, match="task 'train'"):
        frontend.load(path).graph(task="train")


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "model.keras"
    x = keras.Input((3,))
    keras.Model(x, layers.Lambda(lambda v: v * 2)(x)).save(path)
    with pytest.raises(UnsupportedOpError, match="Lambda layer, whose code is not run"):
        frontend.load(path)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "model.keras"
    for content in (b"", b"\x80\x04pickle", b"PK\x03\x04" + b"x" * 40):
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            frontend.load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (1 << 27))
    with pytest.raises(ModelFileError, match="claim to hold 134217728; not opened"):
        frontend.load(path)
