"""What the compiler chose is found again, for the same graph and options alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emuron
from emuron.compiler import choices, pipeline
from emuron.compiler.compile import CompiledModel, compile_model
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.ops import Autocast
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.hardware.instance import Instance
from emuron.trace.trace import COLUMN_TYPES

INF2 = instance("inf2.xlarge")
Make = Callable[..., HFModel]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep choices in a folder of this test alone."""
    monkeypatch.setenv(choices.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path / "choices"


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record each search for the quickest program."""
    names: list[str] = []
    fastest = pipeline._Search.fastest

    def recorded(search: Any) -> Any:
        names.append(search.graph.name)
        return fastest(search)

    monkeypatch.setattr(pipeline._Search, "fastest", recorded)
    return names


def compiled(bert: Make, target: Instance = INF2, **options: Any) -> None:
    graph = bert().encoder_graph(1, 8)
    compile_graph(graph, target, replace(CompileOptions(), **options))


def test_a_hit_equals_a_miss(
    folder: Path, searches: list[str], bert: Make, inputs_of: Callable[..., Any]
) -> None:
    graph = bert().encoder_graph(2, 16)
    first, second = compile_model(graph), compile_model(graph)
    assert facts(first, graph, inputs_of) == facts(second, graph, inputs_of)
    for name in COLUMN_TYPES:
        np.testing.assert_array_equal(getattr(first.trace, name), getattr(second.trace, name))
    assert len(searches) == 1


def facts(model: CompiledModel, graph: Any, inputs_of: Callable[..., Any]) -> list[Any]:
    outputs = model.run(inputs_of(graph), fidelity="instruction")
    return [
        model.summary(),
        model.passes,
        [(part.program.to_text(), part.placement.usage) for part in model.executable.programs],
        {name: array.tobytes() for name, array in outputs.items()},
    ]


@pytest.mark.parametrize(
    ("target", "options"),
    [
        (INF2, {"autocast": Autocast("all")}),
        (INF2, {"autocast": Autocast("matmult", "fp16")}),
        (INF2, {"strict": True}),
        (instance("trn1.2xlarge"), {}),
        (replace(INF2, chip=replace(INF2.chip, hbm_efficiency=0.5)), {}),
    ],
)
def test_another_option_or_chip_is_searched_for(
    folder: Path, searches: list[str], bert: Make, target: Instance, options: dict[str, Any]
) -> None:
    compiled(bert)
    compiled(bert, target, **options)
    assert len(searches) == 2
    compiled(bert, target, **options)
    assert len(searches) == 2


def test_another_graph_or_version_is_searched_for(
    folder: Path, searches: list[str], bert: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(bert)
    compile_graph(bert(layer_norm_eps=1e-5).encoder_graph(1, 8), INF2, CompileOptions())
    assert len(searches) == 2
    monkeypatch.setattr(emuron, "__version__", "0.0.0")
    compiled(bert)
    assert len(searches) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04no json",
        b"[]",
        b"{}",
        b'{"interleaved": true, "share": 2.0, "figures": {}}',
        b'{"interleaved": true, "share": 0.1, "figures": {"a": "b"}}',
        b'{"interleaved": 1, "share": 0.1, "figures": {}}',
        b'{"interleaved": true, "share": 0.1, "figures": []}',
        b'{"interleaved": true, "share": 1' + b"0" * 400 + b', "figures": {}}',
        b"[" * 60_000,
    ],
)
def test_a_broken_file_is_searched_anew_and_mended(
    folder: Path, searches: list[str], bert: Make, content: bytes
) -> None:
    compiled(bert)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    compiled(bert)
    assert len(searches) == 2
    assert file.read_bytes() == whole


def test_what_was_used_the_longest_time_ago_goes_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "MOST_FILES", 2)
    choice = choices.Choice(True, 0.5, {"tried": 1})
    for number, name in enumerate("ab"):
        choices.keep_choice(name, choice)
        os.utime(folder / f"{name}.json", (number, number))
    assert choices.find_choice("a") == choice
    choices.keep_choice("c", choice)
    assert [choices.find_choice(name) for name in "abc"] == [choice, None, choice]


def test_nothing_is_kept_where_that_is_switched_off_or_impossible(
    tmp_path: Path, searches: list[str], bert: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for given in ("off", str(tmp_path / "file")):
        monkeypatch.setenv(choices.FOLDER_VARIABLE, given)
        compiled(bert)
        compiled(bert)
    assert len(searches) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
