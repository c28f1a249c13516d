"""Step times of compiled graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from emuron.compiler.ops import Autocast
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.serving.compiled_steps import CompiledSteps
from emuron.serving.models.llama import open_llama
from emuron.sim.timing import TimingSimulator

INF2 = instance("inf2.xlarge")


@pytest.fixture(scope="module")
def steps(tiny_llama: Path) -> CompiledSteps:
    return CompiledSteps(INF2, open_llama(tiny_llama), Autocast("matmult"))


def test_a_step_is_the_device_and_a_launch_that_waits(steps: CompiledSteps) -> None:
    graph = steps.model.decode_graph(2, 128)
    executable = compile_graph(graph, INF2.chip.core, CompileOptions(steps.autocast))
    alone_s = TimingSimulator(INF2.chip).run(executable.programs[0].program).total_ps / 1e12
    host_s = INF2.host.sync_launch_us / 1e6
    assert steps("decode", 2, 1, 128) > alone_s + host_s
    assert steps("decode", 2, 1, 128) < 2 * alone_s + host_s + 1e-4


def test_more_tokens_sequences_and_context_take_longer(steps: CompiledSteps) -> None:
    assert steps("prefill", 1, 256, 0) > steps("prefill", 1, 128, 0)
    assert steps("decode", 4, 1, 128) > steps("decode", 1, 1, 128)
    assert steps("decode", 1, 1, 512) > steps("decode", 1, 1, 128)


def test_a_prefill_that_reads_a_cache_is_timed_at_its_context(steps: CompiledSteps) -> None:
    assert steps("prefill", 1, 32, 512) > steps("prefill", 1, 32, 128)


def test_several_cores_are_timed_with_their_collectives(tiny_llama: Path) -> None:
    model = open_llama(tiny_llama)
    inf2 = instance("inf2.48xlarge")
    one, four = (CompiledSteps(inf2, model, Autocast("matmult"), tp) for tp in (1, 4))
    assert "collective" in four.compiled("decode", 1, 1, 64).timing.busy_ps
    assert "collective" not in one.compiled("decode", 1, 1, 64).timing.busy_ps
    # Two layers with two all-reduces each, of a model far too small to gain by four cores.
    floor_s = 2 * 2 * inf2.chip.collectives.floor_us / 1e6
    assert four("decode", 1, 1, 64) - one("decode", 1, 1, 64) > floor_s / 2


def test_prompts_take_the_host_their_share_and_tokens_do_not(steps: CompiledSteps) -> None:
    prompt_s = INF2.host.prompt_us / 1e6
    launch_s = INF2.host.sync_launch_us / 1e6
    assert prompt_s + launch_s < steps("prefill", 1, 128, 0) < prompt_s + launch_s + 2e-3
    assert steps("decode", 1, 1, 128) < launch_s + 2e-3
