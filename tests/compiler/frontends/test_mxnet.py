"""MXNet symbols and parameters, against what MXNet 1.9.1 gave for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends import mxnet
from emuron.errors import EmuronError, ModelFileError, UnknownNameError, UnsupportedOpError

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = FIXTURES.parents[2] / "journeys" / "fixtures"
MODEL = mxnet.load(FIXTURES / "mxnet_ops-symbol.json")
EXPECTED = np.load(FIXTURES / "mxnet_ops.npz")
FLOAT32_ERROR = 2e-5
"""Sums of up to 36 float32 products in another order; functions within a few units."""


def _operator(place: int) -> str:
    node = MODEL.nodes[MODEL.heads[place][0]]
    kind = node["attrs"].get("act_type") or node["attrs"].get("pool_type") or ""
    return f"{place}-{node['op']}{kind and '-'}{kind}"


@pytest.mark.parametrize("place", range(len(MODEL.heads)), ids=_operator)
def test_an_operator_gives_what_mxnet_gave(place):
    one = replace(MODEL, heads=(MODEL.heads[place],))
    shapes = {n: a.shape for n, a in EXPECTED.items() if not n.startswith("output_")}
    graph = one.graph(shapes=shapes)
    given = {v.name: EXPECTED[v.name].astype(v.type.dtype.np) for v in graph.inputs}
    (found,) = Evaluator(graph).run(given).values()
    expected = EXPECTED[f"output_{place}"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=FLOAT32_ERROR, rtol=FLOAT32_ERROR)


def test_shapes_alone_come_from_the_operators_where_there_are_no_parameters(tmp_path):
    symbol = tmp_path / "mxnet_cnn-symbol.json"
    symbol.write_bytes((SMALL / symbol.name).read_bytes())
    graph = mxnet.load(symbol).graph(shapes={"images": (2, 3, 16, 16)})
    whole = mxnet.load(SMALL / symbol.name).graph(shapes={"images": (2, 3, 16, 16)})
    assert {p.name: p.type for p in graph.parameters} == {p.name: p.type for p in whole.parameters}
    assert all(p.loader is None for p in graph.parameters)


def test_the_params_file_leads_to_its_symbol():
    model = mxnet.load(SMALL / "mxnet_cnn-0000.params")
    assert (model.name, len(model.stored)) == ("mxnet_cnn", 17)


def test_an_input_without_a_shape_asks_for_one():
    with pytest.raises(EmuronError, match="does not say the shape of its input 'images'"):
        mxnet.load(SMALL / "mxnet_cnn-symbol.json").graph()
    with pytest.raises(UnknownNameError, match=r"Unknown input 'image'\. Did you mean images"):
        mxnet.load(SMALL / "mxnet_cnn-symbol.json").graph(shapes={"image": (1, 3, 8, 8)})


# Damaged files


def _symbol(tmp_path: Path, **changes: object) -> Path:
    parsed = json.loads((SMALL / "mxnet_cnn-symbol.json").read_text())
    path = tmp_path / "m-symbol.json"
    path.write_text(json.dumps(parsed | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": []}, "'heads' must list"),
        ({"nodes": 3}, "'nodes' must be a list"),
        ({"nodes": [{"op": "relu", "name": "r", "inputs": [[0, 0, 0]]}]}, "node 0 .* malformed"),
        ({"nodes": [{"op": "null"}]}, "node 0 .* malformed"),
    ],
)
def test_a_malformed_symbol_is_refused(changes, message, tmp_path):
    with pytest.raises(ModelFileError, match=message):
        mxnet.load(_symbol(tmp_path, **changes))


def test_an_unknown_operator_is_named(tmp_path):
    nodes = [
        {"op": "null", "name": "x", "attrs": {"__shape__": "(2, 3)"}, "inputs": []},
        {"op": "_contrib_MultiBoxPrior", "name": "boxes", "inputs": [[0, 0, 0]]},
    ]
    path = _symbol(tmp_path, nodes=nodes, heads=[[1, 0, 0]])
    with pytest.raises(UnsupportedOpError, match="_contrib_MultiBoxPrior at 'boxes'"):
        mxnet.load(path).graph()


PARAMS = (SMALL / "mxnet_cnn-0000.params").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "first bytes"),
        (b"\x80\x04pickle of anything....................", "first bytes"),
        (PARAMS[:-9], "middle of a name"),
        (
            PARAMS[:16] + (1 << 40).to_bytes(8, "little") + PARAMS[24:],
            "claims 1099511627776 arrays",
        ),
        (PARAMS[:32] + (99).to_bytes(4, "little") + PARAMS[36:], "has 99 dimensions"),
        (PARAMS[:36] + (1 << 60).to_bytes(8, "little") + PARAMS[44:], "needs .* bytes"),
    ],
    ids=["empty", "pickle", "truncated", "many", "rank", "huge"],
)
def test_a_damaged_params_file_is_refused(content, message, tmp_path):
    path = _symbol(tmp_path)
    path.with_name("m-0000.params").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        mxnet.load(path)


def test_no_mutation_of_the_files_ends_in_another_error(tmp_path):
    random = np.random.default_rng(3)
    path = _symbol(tmp_path)
    text = path.read_bytes()
    for _ in range(60):
        for target, content in ((path, text), (path.with_name("m-0000.params"), PARAMS)):
            damaged = bytearray(content)
            for place in random.integers(0, len(damaged), 3):
                damaged[place] = random.integers(0, 256)
            target.write_bytes(damaged)
        try:
            mxnet.load(path).graph(shapes={"images": (1, 3, 8, 8)})
        except EmuronError:
            continue
