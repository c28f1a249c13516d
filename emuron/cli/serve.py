"""`emuron serve`: an OpenAI-compatible server that answers as and when the instance would."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emuron.cli.output import console
from emuron.errors import UsageError

if TYPE_CHECKING:
    from emuron.compiler.frontends.hf import HFModel
    from emuron.serving.engine import LLMEngine
    from emuron.serving.rank_memory import RankMemory
    from emuron.serving.scheduler import SchedulerConfig

_DEFAULT_MODEL_LEN = 4096  # the longest default context; more is asked for with --max-model-len

Model = Annotated[Path, typer.Argument(help="A Hugging Face folder of the Llama family.")]
On = Annotated[str, typer.Option("--on", help="The instance to imitate.")]
Tp = Annotated[int, typer.Option("--tp", help="Logical NeuronCores that share the model.")]
Port = Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
ClockName = Annotated[
    str,
    typer.Option(
        "--clock",
        help="paced: a token comes when the instance would give it; wall: as fast as this computer "
        "computes; virtual: likewise, with the instance's times in the metrics.",
    ),
]
MaxModelLen = Annotated[
    int | None,
    typer.Option("--max-model-len", help="Longest sequence; default: the model's, at most 4096."),
]
MaxNumSeqs = Annotated[int, typer.Option("--max-num-seqs", help="Sequences that run at once.")]
BlockSize = Annotated[int, typer.Option("--block-size", help="Tokens of one KV cache block.")]
NumBlocks = Annotated[
    int | None,
    typer.Option("--num-blocks", help="KV cache blocks; default: what fits and can be used."),
]
ServedName = Annotated[
    str | None, typer.Option("--served-model-name", help="Name in the API; default: the folder's.")
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="EMURON_API_KEY", help="Key that clients must send."),
]
AutocastMode = Annotated[
    str, typer.Option("--autocast", help="Cast float32 to bfloat16: none, matmult or all.")
]
BackendName = Annotated[
    str, typer.Option("--backend", help="Array library that evaluates the model: numpy or torch.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of requests that bring none.")]


def serve(
    model: Model,
    on: On = "inf2.xlarge",
    tp: Tp = 1,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    clock: ClockName = "paced",
    max_model_len: MaxModelLen = None,
    max_num_seqs: MaxNumSeqs = 4,
    block_size: BlockSize = 32,
    num_blocks: NumBlocks = None,
    served_model_name: ServedName = None,
    api_key: ApiKey = None,
    autocast: AutocastMode = "none",
    backend: BackendName = "numpy",
    seed: Seed = 0,
) -> None:
    """Serve a language model over the OpenAI API, at the pace of an instance.

    Streams real tokens of the model, evaluated with the chip's numerics:
    `emuron serve ./llama --on inf2.xlarge`, then point any OpenAI client at the URL printed.
    """
    from emuron.serving.async_engine import AsyncLLMEngine
    from emuron.serving.listener import open_listener
    from emuron.serving.models.llama import open_llama
    from emuron.serving.openai_server import OpenAIServer, ServedModel, run_server

    with open_listener(host, port) as listener:
        llama = open_llama(model)
        memory = _memory(llama, on, tp)
        config = _limits(llama, memory, max_model_len, max_num_seqs, block_size, num_blocks)
        engine = _engine(llama, config, memory, clock, autocast, backend, seed)
        name = served_model_name or llama.name
        served = ServedModel(name, config.max_model_len, api_key)
        server = OpenAIServer(AsyncLLMEngine(engine), llama.tokenizer(), served)
        _print_panel(name, memory, config, engine, listener, api_key is not None)
        run_server(server, listener, log_level="warning")


def _memory(model: HFModel, on: str, tp: int) -> RankMemory:
    from emuron.hardware.catalog import instance
    from emuron.serving.rank_memory import RankMemory

    return RankMemory(instance(on), model, tp)


def _limits(
    model: HFModel,
    memory: RankMemory,
    max_model_len: int | None,
    max_num_seqs: int,
    block_size: int,
    num_blocks: int | None,
) -> SchedulerConfig:
    """Return the engine's limits: those asked for, within the model's and the memory's."""
    from emuron.compiler.frontends.hf_llama import LlamaConfig
    from emuron.serving.kv_cache import blocks_in_budget
    from emuron.serving.scheduler import SchedulerConfig

    assert isinstance(model.config, LlamaConfig)
    positions = model.config.positions
    if max_model_len is not None and max_model_len > positions:
        raise UsageError(
            f"--max-model-len {max_model_len} exceeds the {positions} positions of {model.name}"
        )
    length = min(positions, _DEFAULT_MODEL_LEN) if max_model_len is None else max_model_len
    per_token = memory.kv_bytes_per_token
    room = blocks_in_budget(memory.kv_budget_bytes, per_token, max(block_size, 1))
    if num_blocks is not None and num_blocks > room:
        raise UsageError(
            f"--num-blocks {num_blocks} exceeds the {room} blocks that fit beside the weights on "
            f"{memory.tp} cores of {memory.instance.name}"
        )
    if num_blocks is None:
        num_blocks = min(room, -(-length // max(block_size, 1)) * max_num_seqs)
    return SchedulerConfig(length, max_num_seqs, block_size, max(num_blocks, 1))


def _engine(
    model: HFModel,
    config: SchedulerConfig,
    memory: RankMemory,
    clock: str,
    autocast: str,
    backend: str,
    seed: int,
) -> LLMEngine:
    from emuron.compiler.ops import Autocast
    from emuron.numerics.backend import get_backend
    from emuron.serving.clock import make_clock
    from emuron.serving.compiled_steps import CompiledSteps
    from emuron.serving.engine import LLMEngine
    from emuron.serving.models.llama import LlamaModel, eos_token_ids
    from emuron.serving.runner import ModelTokenSource
    from emuron.serving.step_timer import ModelStepTimer

    cast = Autocast(autocast)
    evaluated = LlamaModel(
        model,
        config.total_blocks,
        config.block_size,
        backend=get_backend(backend),
        autocast=cast,
    )
    evaluated.load()
    ends = eos_token_ids(model)
    steps = CompiledSteps(memory.instance, model, cast, memory.tp)
    return LLMEngine(
        config,
        ModelTokenSource(evaluated, config.resolved_buckets.context, ends),
        ModelStepTimer(steps),
        clock=make_clock(clock),
        tokenizer=model.tokenizer(),
        eos_token_ids=ends,
        seed=seed,
    )


def _print_panel(
    name: str,
    memory: RankMemory,
    config: SchedulerConfig,
    engine: LLMEngine,
    listener: socket.socket,
    locked: bool,
) -> None:
    from rich.panel import Panel
    from rich.table import Table

    address, port = listener.getsockname()[:2]
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    buckets = config.resolved_buckets
    rows = {
        "model": f"{name}, {memory.weight_bytes / 2**20:,.1f} MiB of weights on each core",
        "instance": f"{memory.instance.name}, tp {memory.tp}, clock {engine.clock.name}",
        "buckets": f"prefill {_listed(buckets.prefill)}; decode {_listed(buckets.decode_batch)}",
        "KV cache": f"{config.total_blocks} blocks of {config.block_size} tokens",
        "step times": "compiled for the instance, each bucket when it is first met",
        "API": f"{url}/v1" + ("" if locked else "  (no key asked for)"),
    }
    table = Table.grid(padding=(0, 2))
    for label, text in rows.items():
        table.add_row(label, text)
    console().print(Panel(table, title="emuron serve", title_align="left", expand=False))


def _listed(sizes: tuple[int, ...]) -> str:
    return " ".join(map(str, sizes))
