"""Whole models, executed instruction by instruction, give the bits of the evaluator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler import pipeline
from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Graph
from emuron.compiler.ops import Autocast
from emuron.compiler.passes.lower import lower
from emuron.compiler.pipeline import CompileOptions, compile_graph, optimize
from emuron.errors import UnsupportedOpError
from emuron.hardware.catalog import instance
from emuron.isa.program import Loop
from emuron.numerics.matmul import sums_in_order
from emuron.runtime.device import Device

INF2 = instance("inf2.xlarge")
Inputs = dict[str, np.ndarray]
Make = Callable[..., HFModel]
MakeInputs = Callable[..., Inputs]

ordered = pytest.mark.skipif(
    not sums_in_order(), reason="this host's BLAS adds in another order: low bits differ"
)


def assert_same_bits(graph: Graph, inputs: Inputs, cast: Autocast) -> None:
    """Compare every output of the executed program with the evaluator's.

    With auto-cast "all" the device hands outputs over as it stores them, in bfloat16, the evaluator
    in the graph's dtype: the values are the same.
    """
    executable = compile_graph(graph, INF2.chip.core, CompileOptions(cast))
    executed = Device(INF2).run(executable, inputs)
    evaluated = Evaluator(optimize(graph), "numpy", cast).run(inputs)
    assert executed.keys() == evaluated.keys()
    for name, expected in evaluated.items():
        np.testing.assert_array_equal(
            executed[name].astype(np.float32), np.asarray(expected).astype(np.float32), name
        )


@ordered
@pytest.mark.parametrize("mode", ["none", "matmult", "all"])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_an_encoder_gives_the_bits_of_evaluate(
    bert: Make, inputs_of: MakeInputs, layers: int, mode: str
) -> None:
    graph = bert(num_hidden_layers=layers).encoder_graph(2, 20)
    assert_same_bits(graph, inputs_of(graph), Autocast(mode))


@ordered
@pytest.mark.parametrize("task", ["features", "embedding"])
def test_an_encoder_longer_than_the_partitions_gives_the_bits_of_evaluate(
    bert: Make, inputs_of: MakeInputs, task: str
) -> None:
    model = bert(max_position_embeddings=160, num_hidden_layers=3)
    graph = model.encoder_graph(1, 160, task)
    assert_same_bits(graph, inputs_of(graph), Autocast("matmult"))


@ordered
@pytest.mark.parametrize("mode", ["matmult", "all"])
@pytest.mark.parametrize("kind", ["fp16", "tf32", "fp8"])
def test_an_encoder_cast_to_any_type_gives_the_bits_of_evaluate(
    bert: Make, inputs_of: MakeInputs, kind: str, mode: str
) -> None:
    graph = bert().encoder_graph(2, 20)
    assert_same_bits(graph, inputs_of(graph), Autocast(mode, kind))  # type: ignore[arg-type]


@ordered
@pytest.mark.parametrize(("batch", "sequence"), [(1, 16), (1, 7), (2, 8)])
def test_few_wide_rows_give_the_bits_of_evaluate(
    bert: Make, inputs_of: MakeInputs, batch: int, sequence: int
) -> None:
    graph = bert(hidden_size=384, num_attention_heads=6).encoder_graph(batch, sequence)
    assert_same_bits(graph, inputs_of(graph), Autocast("matmult"))


@ordered
def test_an_encoder_for_a_core_without_float32_products_gives_the_bits_of_evaluate(
    bert: Make, inputs_of: MakeInputs
) -> None:
    graph = bert().encoder_graph(2, 20)
    inputs, cast = inputs_of(graph), Autocast("matmult")
    inf1 = instance("inf1.xlarge")
    executed = Device(inf1).run(compile_graph(graph, inf1.chip.core, CompileOptions(cast)), inputs)
    for name, expected in Evaluator(optimize(graph), "numpy", cast).run(inputs).items():
        np.testing.assert_array_equal(executed[name], expected, name)


@ordered
@pytest.mark.parametrize("mode", ["none", "matmult", "all"])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_decoder_gives_the_bits_of_evaluate_in_both_phases(
    llama: Make, inputs_of: MakeInputs, layers: int, mode: str
) -> None:
    model = llama(num_hidden_layers=layers)
    for graph, start in ((model.prefill_graph(1, 24, 40), 0), (model.decode_graph(2, 40), 17)):
        assert_same_bits(graph, inputs_of(graph, start), Autocast(mode))


@ordered
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(2, 2, 64), (4, 1, 32), (1, 1, 128)])
def test_heads_of_every_grouping_give_the_bits_of_evaluate(
    llama: Make, inputs_of: MakeInputs, heads: int, key_heads: int, size: int, dtype: str
) -> None:
    model = llama(
        num_attention_heads=heads, num_key_value_heads=key_heads, head_dim=size, torch_dtype=dtype
    )
    for graph, start in ((model.prefill_graph(3, 9, 16), 0), (model.decode_graph(3, 16), 9)):
        assert_same_bits(graph, inputs_of(graph, start), Autocast())


@ordered
def test_values_may_all_lie_in_hbm(
    bert: Make, llama: Make, inputs_of: MakeInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RESIDENT_SHARES", (0.0,))
    for graph in (bert().encoder_graph(1, 20), llama().decode_graph(1, 32)):
        assert_same_bits(graph, inputs_of(graph, 11), Autocast("matmult"))


@ordered
def test_a_decode_writes_its_own_slot_of_the_caches_alone(
    llama: Make, inputs_of: MakeInputs
) -> None:
    graph = llama().decode_graph(1, 32)
    inputs = inputs_of(graph, 11)
    executable = compile_graph(graph, INF2.chip.core, CompileOptions(Autocast()))
    outputs = Device(INF2).run(executable, inputs)
    for name in (n for n in inputs if "_cache." in n):
        changed = np.any(outputs[name] != inputs[name], axis=(0, 1, 3))
        assert np.flatnonzero(changed).tolist() == [11], name


def test_aliased_caches_share_the_memory_of_the_inputs(llama: Make) -> None:
    executable = compile_graph(llama().decode_graph(1, 32), INF2.chip.core, CompileOptions())
    (part,) = executable.programs
    entered = {p.tensor for p in part.inputs if "cache" in p.names[0]}
    left = {p.tensor for p in part.outputs if p.names[0] in part.aliases}
    assert entered == left
    assert entered


def test_equal_layers_are_written_once_in_a_loop(bert: Make) -> None:
    few, many = (
        lower(optimize(bert(num_hidden_layers=n).encoder_graph(1, 20)), INF2.chip.core, c, 40000)
        for n, c in ((4, Autocast()), (16, Autocast()))
    )
    rows = [sum(len(block) for block, _ in lowered.program.leaves()) for lowered in (few, many)]
    assert rows[0] == rows[1]
    assert len(many.program) > 3 * len(few.program)
    assert any(isinstance(part, Loop) and part.index.trip == 8 for part in many.program.body)


def test_an_op_without_a_kernel_is_named_with_its_place(bert: Make) -> None:
    from emuron.compiler.graph import NodeBuilder, TensorType
    from emuron.compiler.ops import OPS

    builder = NodeBuilder("one_op")
    example = OPS["rem"].examples()[-1]  # of real numbers
    operands = [
        builder.input(f"x{i}", TensorType(t.shape, t.dtype)) for i, t in enumerate(example.types)
    ]
    with builder.at("model.py:7"):
        (out,) = builder.append(example.op, *operands)
    builder.output("y", out)
    with pytest.raises(UnsupportedOpError, match=r"rem at model\.py:7"):
        compile_graph(builder.finish(), INF2.chip.core, CompileOptions(strict=True))
