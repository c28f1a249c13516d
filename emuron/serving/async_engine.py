"""The engine behind a server: a thread steps it, and coroutines await what it says."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Ordered
from dataclasses import replace
from typing import NamedTuple

from emuron.errors import EmuronError, ServerError
from emuron.serving.engine import LLMEngine
from emuron.serving.request import RequestOutput, SamplingParams


class ChoiceOutput(NamedTuple):
    """What one step added to one choice of a request."""

    choice: int
    output: RequestOutput


class _Listener(NamedTuple):
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[ChoiceOutput | Exception]
    choice: int

    def tell(self, message: ChoiceOutput | Exception) -> None:
        """Pass a message to the coroutine; a loop that has closed no longer listens."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.queue.put_nowait, message)


class AsyncLLMEngine:
    """Steps an LLMEngine in one worker thread, which alone touches it while it runs."""

    def __init__(self, engine: LLMEngine) -> None:
        """Own `engine`; nothing runs until `start`."""
        self.engine = engine
        self._lock = threading.Condition()
        self._commands: list[Callable[[], None]] = []
        self._listeners: dict[str, _Listener] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    @property
    def healthy(self) -> bool:
        """Whether the worker runs and has not failed."""
        return self._thread is not None and self._thread.is_alive() and self._failure is None

    def start(self) -> None:
        """Start the worker thread."""
        self._thread = threading.Thread(target=self._work, name="emuron-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the step under way and wait for the thread; requests under way are aborted."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join()
        self._fail_listeners(ServerError("the server is shutting down"))

    async def generate(
        self, request_id: str, prompt_token_ids: Ordered[int], params: SamplingParams
    ) -> AsyncGenerator[ChoiceOutput, None]:
        """Yield what is generated for each of `params.n` choices until all have finished.

        Leaving the iterator early aborts the request and frees its blocks.
        """
        queue: asyncio.Queue[ChoiceOutput | Exception] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        names = [f"{request_id}-{index}" for index in range(params.n)]
        listeners = [_Listener(loop, queue, index) for index in range(params.n)]
        arrival_ps = self.engine.clock.now_ps()
        self._send(lambda: self._add(names, listeners, prompt_token_ids, params, arrival_ps))
        try:
            for _ in itertools.repeat(None):
                message = await queue.get()
                if isinstance(message, Exception):
                    raise message
                yield message
                if message.output.finished:
                    names.remove(message.output.request_id)
                if not names:
                    return
        finally:
            if names:
                left = list(names)
                self._send(lambda: self._abort(left))

    def _send(self, command: Callable[[], None]) -> None:
        """Have the worker run `command` between two steps."""
        with self._lock:
            self._commands.append(command)
            self._lock.notify()

    def _add(
        self,
        names: list[str],
        listeners: list[_Listener],
        prompt_token_ids: Ordered[int],
        params: SamplingParams,
        arrival_ps: int,
    ) -> None:
        if self._failure is not None:
            listeners[0].tell(ServerError(f"the engine has stopped: {self._failure}"))
            return
        try:
            for index, name in enumerate(list(names)):
                seed = None if params.seed is None else (params.seed + index) % 2**63
                child = replace(params, seed=seed)
                self.engine.add_request(name, prompt_token_ids, child, arrival_ps=arrival_ps)
                self._listeners[name] = listeners[index]
        except EmuronError as error:
            self._abort(names)
            listeners[0].tell(error)

    def _abort(self, names: Ordered[str]) -> None:
        for name in names:
            self._listeners.pop(name, None)
            self.engine.abort(name)

    def _work(self) -> None:
        while True:
            with self._lock:
                while not (self._commands or self._stopping or self._can_step()):
                    self._lock.wait()
                if self._stopping:
                    return
                commands, self._commands = self._commands, []
            for command in commands:
                command()
            if self._can_step():
                self._step()

    def _can_step(self) -> bool:
        return self._failure is None and self.engine.has_unfinished_requests

    def _step(self) -> None:
        try:
            outputs = self.engine.step()
        except Exception as error:  # noqa: BLE001  whatever it is, the clients must hear of it
            self._failure = error
            self._fail_listeners(ServerError(f"the engine failed: {type(error).__name__}: {error}"))
            return
        for output in outputs:
            listener = self._listeners.get(output.request_id)
            if listener is not None:
                listener.tell(ChoiceOutput(listener.choice, output))
                if output.finished:
                    del self._listeners[output.request_id]

    def _fail_listeners(self, error: ServerError) -> None:
        for listener in self._listeners.values():
            listener.tell(error)
        self._listeners.clear()
