"""A user takes a model, sees its outputs, time and price, compiles it and runs the artifact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import emuron
from emuron.cli import demo
from emuron.cli.model_options import random_inputs, text_inputs
from emuron.compiler import artifact
from emuron.compiler.compile import compile_model
from emuron.compiler.frontends import hf
from emuron.compiler.frontends.zoo import open_model
from emuron.compiler.graph import Graph, NodeBuilder, TensorType
from emuron.compiler.ops import find_op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import float32
from emuron.numerics.matmul import sums_in_order

in_order = pytest.mark.skipif(
    not sums_in_order(), reason="this host's BLAS adds in another order: emuron/numerics/matmul.py"
)


@pytest.fixture(scope="module")
def minilm() -> Path:
    pytest.importorskip(demo.PACKAGE)
    return demo.installed_model()


@in_order
@pytest.mark.parametrize("sequence", [32, 128])
@pytest.mark.parametrize("task", ["features", "embedding"])
def test_minilm_gives_the_same_bits_by_instruction_as_by_operator(minilm, sequence, task):
    model = compile_model(hf.load(minilm), batch=1, sequence=sequence, task=task)
    inputs = text_inputs(model.graph, minilm, ["A man is playing a guitar on the stage."])
    instruction = model.run(inputs, fidelity="instruction")
    for name, array in model.run(inputs).items():
        np.testing.assert_array_equal(array.view(np.int32), instruction[name].view(np.int32))


@in_order
@pytest.mark.parametrize("autocast", ["none", "matmult", "all"])
def test_minilm_gives_the_same_bits_under_every_cast(minilm, autocast):
    model = compile_model(
        hf.load(minilm), batch=2, sequence=32, task="embedding", autocast=autocast
    )
    inputs = text_inputs(model.graph, minilm, ["The cat sleeps.", "Rain is expected tomorrow."])
    instruction = model.run(inputs, fidelity="instruction")["sentence_embedding"]
    operator = model.run(inputs)["sentence_embedding"]
    np.testing.assert_array_equal(operator.view(np.int32), instruction.view(np.int32))
    similarity = (operator * model.reference(inputs)["sentence_embedding"]).sum(axis=1)
    # The bound of the demo for bfloat16 products; "all" rounds every value to 8 bits as well.
    assert similarity.min() >= (0.999 if autocast != "all" else 0.99)


@in_order
@pytest.mark.slow
def test_two_layers_of_bert_base_give_the_same_bits_both_ways():
    base = open_model("bert-base-uncased", seed=7)
    shallow = hf.from_config({**base.fields, "num_hidden_layers": 2}, name="bert", seed=7)
    model = compile_model(shallow, batch=1, sequence=128)
    inputs = random_inputs(model.graph, seed=1)
    instruction = model.run(inputs, fidelity="instruction")
    for name, array in model.run(inputs).items():
        np.testing.assert_array_equal(array.view(np.int32), instruction[name].view(np.int32))


def test_similar_sentences_are_found_and_the_price_is_that_of_the_time(minilm):
    model = compile_model(hf.load(minilm), batch=4, sequence=32, task="embedding")
    run = demo.embed(model, minilm, demo.SENTENCES[:8])
    assert run.smallest_cosine >= 0.999
    found = demo.similar_pairs(run.embeddings, demo.SENTENCES[:8])
    pairs = {(p["first"], p["second"]) for p in found}
    assert pairs == set(zip(demo.SENTENCES[0:8:2], demo.SENTENCES[1:8:2], strict=True))
    for cost in model.costs():
        inferences_per_hour = 3600 * model.throughput_per_s
        assert cost.usd_per_million == pytest.approx(cost.usd_per_hour / inferences_per_hour * 1e6)


def test_a_compiled_model_runs_elsewhere_without_the_folder(minilm, tmp_path):
    path = artifact.save(
        compile_model(hf.load(minilm), batch=1, sequence=32), tmp_path / "m.emuron", minilm
    )
    text = ("--text", "A kitten is napping in the sun.", "--json")
    command = [sys.executable, "-m", "emuron", "run", str(path), *text]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found = json.loads(done.stdout)
    model = emuron.load(path)
    expected = model.run(text_inputs(model.graph, path, [text[1]]))["last_hidden_state"]
    first = found["outputs"]["last_hidden_state"]["first"]
    assert first == [float(x) for x in expected.ravel()[: len(first)]]


def test_an_operator_without_a_kernel_is_named_with_its_source_line():
    builder = NodeBuilder("custom")
    x = builder.input("x", TensorType((4, 8), float32))
    with builder.at("model.py:12"):
        (y,) = builder.append(find_op("cumulative")(0, "logsumexp"), x)
    builder.output("y", y)
    graph: Graph = builder.finish()
    model = compile_model(graph, on="inf2.xlarge", strict=True)
    with pytest.raises(UnsupportedOpError, match=r"cumulative at model\.py:12"):
        _ = model.timing
