"""What the passes report: counted here by hand on graphs small enough for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emuron.compiler.compile import CompiledModel, compile_model
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.pipeline import apply_passes
from emuron.numerics.dtypes import float32
from emuron.trace.pass_record import PassRecord
from emuron.trace.report import render_html


def named(passes: tuple[PassRecord, ...], name: str) -> PassRecord:
    """Return the one record of a name."""
    (found,) = (record for record in passes if record.name == name)
    return found


@pytest.fixture(scope="module")
def encoder(bert: Callable[..., HFModel]) -> CompiledModel:
    return compile_model(bert(num_hidden_layers=6), batch=1, sequence=16)


def doubled() -> Graph:
    """Return a graph that computes one tanh twice and one exponential for nobody."""
    b = GraphBuilder("doubled")
    x = b.input("x", TensorType((4, 8), float32))
    first, second = b.tanh(x), b.tanh(x)
    b.apply("exp", x)
    b.output("y", b.add(first, second))
    return b.finish()


def test_a_pass_over_the_graph_tells_what_it_removed() -> None:
    _, passes = apply_passes(doubled())
    assert dict(named(passes, "drop_dead_nodes").figures) == {
        "nodes before": 4,
        "nodes after": 3,
        "exp removed": 1,
    }
    assert dict(named(passes, "share_equal_nodes").figures) == {
        "nodes before": 3,
        "nodes after": 2,
        "tanh removed": 1,
    }


def test_lowering_counts_every_layer_that_a_loop_stands_for(encoder: CompiledModel) -> None:
    figures = named(encoder.passes, "lower").figures
    assert figures["operators"] == len(encoder.graph.nodes)
    assert figures["layers written once"] == 1
    assert figures["layers run by loops"] == 6
    assert figures["linear with gelu in its eviction"] == 6  # each layer's first product
    assert figures["linear with add in its eviction"] == 12  # and both residual sums


def test_traffic_is_counted_by_kind() -> None:
    b = GraphBuilder("product")
    x = b.input("x", TensorType((4, 128), float32))
    weight = b.parameter("w", TensorType((256, 128), float32))
    b.output("y", b.linear(x, weight))
    figures = named(compile_model(b.finish(), autocast="none").passes, "write_program").figures
    assert figures["inputs read, bytes"] == 4 * 128 * 4
    assert figures["weights read, bytes"] == 256 * 128 * 4
    assert figures["outputs written, bytes"] == 4 * 256 * 4
    assert figures["transposes"] == 1  # of the rows
    assert figures["transposed, bytes"] == 4 * 128 * 4
    assert "spilled values moved, bytes" not in figures


def test_the_schedule_tells_the_busy_share_of_every_engine(encoder: CompiledModel) -> None:
    figures = named(encoder.passes, "choose_schedule").figures
    shares = [value for name, value in figures.items() if name.endswith("busy, share")]
    assert {"tensor busy, share", "vector busy, share"} <= set(figures)
    assert all(0 <= share <= 1 for share in shares)


def test_figures_are_shown_with_their_units() -> None:
    record = PassRecord("lower", {"values, bytes": 2048, "busy, share": 0.25, "nodes": 12345})
    assert record.rows() == (("values", "2.00 KiB"), ("busy", "25.0 %"), ("nodes", "12,345"))


def test_the_page_shows_every_pass(encoder: CompiledModel) -> None:
    page = render_html(encoder.report())
    for record in encoder.passes:
        assert f"<h3>{record.name.replace('_', ' ')}</h3>" in page
