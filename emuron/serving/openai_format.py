"""Engine outputs to the objects of the OpenAI API: answers, chunks, log probabilities, errors."""

from __future__ import annotations

import json
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Any

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.serving.openai_protocol import Call
from emuron.serving.request import RequestOutput, SampledToken

_LOWEST_LOGPROB = -9999.0  # what vLLM writes for minus infinity, which JSON cannot say


@dataclass(slots=True)
class Choice:
    """One choice as it grows: what a call without streaming collects."""

    index: int
    text: str = ""
    tokens: list[SampledToken] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None

    def add(self, output: RequestOutput) -> None:
        """Take in one step."""
        self.text += output.text
        self.tokens.extend(output.tokens)
        self.finish_reason = output.finish_reason
        self.stop_reason = output.stop_reason


class Formatter:
    """Writes the objects of one call."""

    def __init__(
        self, call: Call, tokenizer: Tokenizer, model: str, request_id: str, created_s: int
    ) -> None:
        """Write for `call`, under `request_id` and the Unix time `created_s`."""
        self._call = call
        self._tokenizer = tokenizer
        self._head = {"id": request_id, "created": created_s, "model": model}
        self._prompt_tokens = sum(map(len, call.prompts))

    def answer(self, choices: Ordered[Choice]) -> dict[str, Any]:
        """Return the whole answer."""
        kind = "chat.completion" if self._call.chat else "text_completion"
        completion_tokens = sum(len(choice.tokens) for choice in choices)
        return {
            **self._head,
            "object": kind,
            "choices": [self._whole(choice) for choice in choices],
            "usage": self.usage(completion_tokens),
        }

    def first_chunk(self, index: int) -> dict[str, Any] | None:
        """Return the chunk that opens a streamed choice, if this call has one."""
        if self._call.chat:
            delta = {"role": "assistant", "content": ""}
            return self._chunk({"index": index, "delta": delta, "finish_reason": None})
        if self._call.echo:
            text = self._call.echo[index // self._call.params.n]
            return self._chunk(
                {"index": index, "text": text, "logprobs": None, "finish_reason": None}
            )
        return None

    def chunk(self, index: int, output: RequestOutput) -> dict[str, Any]:
        """Return the chunk of one step of a streamed choice."""
        choice: dict[str, Any] = {
            "index": index,
            "logprobs": self._logprobs(output.tokens),
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
        }
        if self._call.chat:
            choice["delta"] = {"content": output.text}
        else:
            choice["text"] = output.text
        return self._chunk(choice)

    def usage_chunk(self, completion_tokens: int) -> dict[str, Any]:
        """Return the last chunk of a stream that was asked for its usage."""
        chunk = self._chunk(None)
        return {**chunk, "choices": [], "usage": self.usage(completion_tokens)}

    def usage(self, completion_tokens: int) -> dict[str, int]:
        """Return the token counts."""
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self._prompt_tokens + completion_tokens,
        }

    def _chunk(self, choice: dict[str, Any] | None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._call.chat else "text_completion"
        chunk = {**self._head, "object": kind, "choices": [choice]}
        return {**chunk, "usage": None} if self._call.include_usage else chunk

    def _whole(self, choice: Choice) -> dict[str, Any]:
        written: dict[str, Any] = {
            "index": choice.index,
            "logprobs": self._logprobs(choice.tokens),
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
        }
        if self._call.chat:
            written["message"] = {"role": "assistant", "content": choice.text}
        else:
            echo = self._call.echo
            before = echo[choice.index // self._call.params.n] if echo else ""
            written["text"] = before + choice.text
        return written

    def _logprobs(self, tokens: Ordered[SampledToken]) -> dict[str, Any] | None:
        if self._call.params.logprobs is None:
            return None
        if self._call.chat:
            return {"content": [self._chat_logprob(token) for token in tokens]}
        texts = [self._token_text(token.token_id) for token in tokens]
        offsets = [sum(map(len, texts[:i])) for i in range(len(texts))]
        return {
            "tokens": texts,
            "token_logprobs": [_finite(token.logprob) for token in tokens],
            "top_logprobs": [
                {self._token_text(i): _finite(p) for i, p in token.top} for token in tokens
            ],
            "text_offset": offsets,
        }

    def _token_text(self, token_id: int) -> str:
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

    def _chat_logprob(self, token: SampledToken) -> dict[str, Any]:
        top = [self._one_logprob(token_id, logprob) for token_id, logprob in token.top]
        return {**self._one_logprob(token.token_id, token.logprob), "top_logprobs": top}

    def _one_logprob(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        text = self._token_text(token_id)
        return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode())}


def _finite(logprob: float | None) -> float:
    return _LOWEST_LOGPROB if logprob is None else max(logprob, _LOWEST_LOGPROB)


def event(data: object) -> bytes:
    """Return one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def error_body(
    message: str, status: int, *, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return the error object of the OpenAI API."""
    kinds = {401: "authentication_error", 404: "not_found_error"}
    kind = "server_error" if status >= 500 else kinds.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
