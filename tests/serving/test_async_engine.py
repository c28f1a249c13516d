"""The engine's thread and its listeners."""

import asyncio
from collections.abc import Callable

import pytest

from emuron.errors import PromptTooLongError, ServerError
from emuron.serving.async_engine import AsyncLLMEngine
from emuron.serving.engine import LLMEngine
from emuron.serving.request import SamplingParams

Make = Callable[..., LLMEngine]


async def collect(engine: AsyncLLMEngine, name: str, params: SamplingParams) -> dict[int, list]:
    tokens: dict[int, list[int]] = {}
    async for part in engine.generate(name, [1, 2, 3], params):
        tokens.setdefault(part.choice, []).extend(t.token_id for t in part.output.tokens)
    return tokens


def test_choices_are_requests_with_seeds_in_a_row(history_engine: Make) -> None:
    engine = AsyncLLMEngine(history_engine())
    engine.start()
    found = asyncio.run(collect(engine, "a", SamplingParams(n=3, seed=2**63 - 2, max_tokens=6)))
    engine.stop()
    for choice, seed in enumerate((2**63 - 2, 2**63 - 1, 0)):
        params = SamplingParams(seed=seed, max_tokens=6)
        assert tuple(found[choice]) == history_engine().run([([1, 2, 3], params)])[0].token_ids


def test_a_refused_request_raises_where_it_is_awaited(history_engine: Make) -> None:
    engine = AsyncLLMEngine(history_engine(max_model_len=32))
    engine.start()
    with pytest.raises(PromptTooLongError):
        asyncio.run(collect(engine, "a", SamplingParams(max_tokens=40)))
    assert engine.healthy
    engine.stop()
    assert not engine.healthy


def test_leaving_early_aborts_all_choices(history_engine: Make) -> None:
    inner = history_engine()
    engine = AsyncLLMEngine(inner)

    async def leave() -> None:
        parts = engine.generate("a", [1, 2], SamplingParams(n=2, max_tokens=200))
        await anext(parts)
        await parts.aclose()
        await collect(engine, "b", SamplingParams(max_tokens=2))  # the abort came before

    engine.start()
    asyncio.run(leave())
    engine.stop()
    assert inner.scheduler.kv.usage == 0.0


def test_a_failing_model_fails_every_client_and_the_health(
    history_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = history_engine()

    def fail(*_: object) -> None:
        raise ZeroDivisionError("the model is broken")

    monkeypatch.setattr(inner.source, "run", fail)
    engine = AsyncLLMEngine(inner)
    engine.start()
    with pytest.raises(ServerError, match="ZeroDivisionError: the model is broken"):
        asyncio.run(collect(engine, "a", SamplingParams()))
    assert not engine.healthy
    with pytest.raises(ServerError, match="the engine has stopped"):
        asyncio.run(collect(engine, "b", SamplingParams()))
    engine.stop()


def test_stopping_tells_the_clients_that_wait(history_engine: Make) -> None:
    engine = AsyncLLMEngine(history_engine())

    async def wait() -> None:
        parts = engine.generate("a", [1, 2], SamplingParams(max_tokens=200))
        await anext(parts)
        await asyncio.to_thread(engine.stop)
        async for _ in parts:
            pass

    engine.start()
    with pytest.raises(ServerError, match="shutting down"):
        asyncio.run(wait())
