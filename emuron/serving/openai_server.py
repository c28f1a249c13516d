"""The HTTP server with the endpoints of OpenAI and of vLLM."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from emuron import __version__
from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.errors import EmuronError, PromptTooLongError, ServerError, UsageError, missing_extra
from emuron.serving import openai_protocol as protocol
from emuron.serving.async_engine import AsyncLLMEngine, ChoiceOutput
from emuron.serving.metrics import ServerMetrics
from emuron.serving.openai_format import Choice, Formatter, error_body, event

try:
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse, StreamingResponse
    from starlette.exceptions import HTTPException
    from starlette.types import Receive, Scope, Send
except ImportError as error:
    raise missing_extra(error, "the HTTP server") or error from error

MAX_BODY_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the server says of itself; `api_key` None lets everybody in."""

    name: str
    max_model_len: int
    api_key: str | None = None
    max_body_bytes: int = MAX_BODY_BYTES


class _Refusal(UsageError):
    """An answer with another status than 400."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _EventStream(StreamingResponse):
    """A stream of server-sent events whose generator is closed as soon as nobody reads it."""

    def __init__(self, events: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


class OpenAIServer:
    """The endpoints over one engine; `app` is the ASGI application."""

    def __init__(self, engine: AsyncLLMEngine, tokenizer: Tokenizer, model: ServedModel) -> None:
        """Serve `model` with `engine`, which the application starts and stops."""
        self._engine = engine
        self._tokenizer = tokenizer
        self._model = model
        self._created_s = int(time.time())
        self._metrics = ServerMetrics(engine.engine, model.name)
        self.app = FastAPI(lifespan=self._lifespan, openapi_url=None)
        self._add_routes()
        for kind in (EmuronError, HTTPException, Exception):
            self.app.add_exception_handler(kind, _refuse)

    def _add_routes(self) -> None:
        routes: tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...] = (
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/completions", self._complete),
            ("GET", "/v1/models", self._models),
            ("GET", "/v1/models/{name:path}", self._one_model),
            ("GET", "/health", self._health),
            ("GET", "/version", self._version),
            ("GET", "/metrics", self._metrics_text),
            ("POST", "/tokenize", self._tokenize),
            ("POST", "/detokenize", self._detokenize),
        )
        for method, path, endpoint in routes:
            self.app.add_api_route(path, endpoint, methods=[method], response_model=None)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self._engine.start()
        yield
        await asyncio.to_thread(self._engine.stop)

    async def _chat(self, request: Request) -> Response:
        return await self._generate(request, protocol.parse_chat, "chatcmpl")

    async def _complete(self, request: Request) -> Response:
        return await self._generate(request, protocol.parse_completion, "cmpl")

    async def _generate(self, request: Request, parse: protocol.Parser, prefix: str) -> Response:
        self._authorize(request)
        body = await self._body(request)
        self._check_model(body)
        call = parse(body, self._tokenizer)
        for prompt in call.prompts:
            self._engine.engine.check_request(len(prompt), call.params)
        request_id = f"{prefix}-{uuid.uuid4().hex}"
        formatter = Formatter(call, self._tokenizer, self._model.name, request_id, int(time.time()))
        headers = {"x-request-id": request.headers.get("x-request-id", request_id)}
        if call.stream:
            return _EventStream(self._events(call, formatter, request_id), headers)
        answer = await _unless_disconnected(request, self._answer(call, formatter, request_id))
        return JSONResponse(answer, headers=headers)

    async def _answer(
        self, call: protocol.Call, formatter: Formatter, request_id: str
    ) -> dict[str, Any]:
        choices = [Choice(i) for i in range(len(call.prompts) * call.params.n)]
        async with contextlib.aclosing(self._outputs(call, request_id)) as outputs:
            async for index, output in outputs:
                choices[index].add(output)
        return formatter.answer(choices)

    async def _events(
        self, call: protocol.Call, formatter: Formatter, request_id: str
    ) -> AsyncIterator[bytes]:
        completion_tokens = 0
        opened: set[int] = set()
        try:
            async with contextlib.aclosing(self._outputs(call, request_id)) as outputs:
                async for index, output in outputs:
                    completion_tokens += len(output.tokens)
                    first = None if index in opened else formatter.first_chunk(index)
                    opened.add(index)
                    if first is not None:
                        yield event(first)
                    yield event(formatter.chunk(index, output))
        except EmuronError as error:  # the status line is gone; the stream itself must say it
            yield event(error_body(str(error), _status(error)))
        else:
            if call.include_usage:
                yield event(formatter.usage_chunk(completion_tokens))
        yield event("[DONE]")

    async def _outputs(
        self, call: protocol.Call, request_id: str
    ) -> AsyncGenerator[ChoiceOutput, None]:
        """Yield the outputs of all prompts as they come; choice `p * n + i` is prompt p's i-th."""
        merged: asyncio.Queue[ChoiceOutput | EmuronError | None] = asyncio.Queue()

        async def pump(at: int, prompt: tuple[int, ...]) -> None:
            stream = self._engine.generate(f"{request_id}-{at}", prompt, call.params)
            try:
                async with contextlib.aclosing(stream):
                    async for index, output in stream:
                        merged.put_nowait(ChoiceOutput(at * call.params.n + index, output))
            except EmuronError as error:
                merged.put_nowait(error)
            merged.put_nowait(None)

        tasks = [asyncio.create_task(pump(at, p)) for at, p in enumerate(call.prompts)]
        try:
            left = len(tasks)
            while left:
                message = await merged.get()
                if isinstance(message, EmuronError):
                    raise message
                if message is None:
                    left -= 1
                else:
                    yield message
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _models(self, request: Request) -> Response:
        self._authorize(request)
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def _one_model(self, request: Request, name: str) -> Response:
        self._authorize(request)
        self._check_model({"model": name})
        return JSONResponse(self._card())

    async def _health(self) -> Response:
        return Response(status_code=200 if self._engine.healthy else 503)

    async def _version(self) -> Response:
        return JSONResponse({"version": __version__})

    async def _metrics_text(self) -> Response:
        return Response(self._metrics.render(), media_type=self._metrics.content_type)

    async def _tokenize(self, request: Request) -> Response:
        body = await self._body(request)
        if "messages" in body:
            tokens = protocol.chat_prompt(body, self._tokenizer)
        else:
            if not isinstance(body.get("prompt"), str):
                raise UsageError("prompt must be a text")
            special = body.get("add_special_tokens", True) is True
            tokens = protocol.encode(body["prompt"], self._tokenizer, special)
        return JSONResponse(
            {"count": len(tokens), "max_model_len": self._model.max_model_len, "tokens": tokens}
        )

    async def _detokenize(self, request: Request) -> Response:
        body = await self._body(request)
        tokens = protocol.token_list(body.get("tokens"), "tokens")
        return JSONResponse({"prompt": self._tokenizer.decode(tokens, skip_special_tokens=False)})

    def _card(self) -> dict[str, Any]:
        return {
            "id": self._model.name,
            "object": "model",
            "created": self._created_s,
            "owned_by": "emuron",
            "root": self._model.name,
            "max_model_len": self._model.max_model_len,
        }

    def _authorize(self, request: Request) -> None:
        key = self._model.api_key
        if key is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        good = secrets.compare_digest(given.strip().encode(), key.encode())
        if scheme.lower() != "bearer" or not good:
            message = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'"
            raise _Refusal(401, message, "invalid_api_key")

    def _check_model(self, body: dict[str, Any]) -> None:
        name = body.get("model")
        if name is not None and name != self._model.name:
            raise _Refusal(
                404,
                f"the model {name!r} is not served here; this server has {self._model.name!r}",
                "model_not_found",
            )

    async def _body(self, request: Request) -> dict[str, Any]:
        limit = self._model.max_body_bytes
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > limit:
                raise _Refusal(413, f"the request body is larger than {limit} bytes")
        return protocol.parse_json(bytes(data))


async def _unless_disconnected(request: Request, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Await `work`, but cancel it when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body is read: only a disconnect is left
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ServerError("the client went away")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


def _status(error: Exception) -> int:
    if isinstance(error, _Refusal):
        return error.status
    if isinstance(error, UsageError):
        return 400
    return 503 if isinstance(error, ServerError) else 500


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer an error as the OpenAI API does."""
    if isinstance(error, HTTPException):
        body = error_body(f"{request.method} {request.url.path}: {error.detail}", error.status_code)
        return JSONResponse(body, status_code=error.status_code)
    status = _status(error)
    message = str(error)
    if isinstance(error, PromptTooLongError):
        code: str | None = "context_length_exceeded"
    else:
        code = getattr(error, "code", None)
    return JSONResponse(error_body(message, status, code=code), status_code=status)


def server_config(server: OpenAIServer, log_level: str = "info") -> uvicorn.Config:
    """Return uvicorn's settings; web sockets are off, and every request is logged at `debug`."""
    return uvicorn.Config(
        server.app, log_level=log_level, access_log=log_level == "debug", ws="none"
    )


def run_server(server: OpenAIServer, listener: socket.socket, log_level: str = "info") -> None:
    """Serve on a bound socket until interrupted, then let the requests under way finish."""
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(server_config(server, log_level)).run(sockets=[listener])
