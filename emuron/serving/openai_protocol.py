"""Bodies of OpenAI requests to engine calls, with a message for all that may be wrong in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.errors import UsageError
from emuron.serving.request import SamplingParams

MAX_STOPS = 4  # OpenAI's limit on `stop`
MAX_PROMPTS = 128  # prompts of one /v1/completions call, each as costly as a request
_ROLES = ("system", "developer", "user", "assistant", "tool")
_COMPLETION_MAX_TOKENS = 16  # OpenAI's default for /v1/completions

_SAME_NAME = (
    *("n", "presence_penalty", "frequency_penalty", "repetition_penalty", "temperature", "top_p"),
    *("top_k", "min_p", "seed", "min_tokens"),
)
_FLAGS = ("ignore_eos", "include_stop_str_in_output", "skip_special_tokens")
_NOT_OFFERED = (
    *("tools", "functions", "response_format", "guided_json", "guided_regex", "guided_choice"),
    *("guided_grammar", "structured_outputs", "audio", "suffix", "prompt_logprobs", "bad_words"),
)
_NEUTRAL: tuple[object, ...] = (None, [], {}, "", {"type": "text"})


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request: prompts of tokens, and how to answer. `echo` holds the prompts' texts."""

    chat: bool
    prompts: tuple[tuple[int, ...], ...]
    params: SamplingParams
    stream: bool
    include_usage: bool
    echo: tuple[str, ...] = ()


def parse_json(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a request body; raise UsageError when it is not one."""
    try:
        body = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"the request body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise UsageError("the request body is nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"the request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError(f"the request body must be a JSON object, got {_kind(body)}")
    return body


def parse_chat(body: Mapping[str, Any], tokenizer: Tokenizer) -> Call:
    """Return the call of a /v1/chat/completions body; raise UsageError naming the bad field."""
    flag = _flag(body, "logprobs", False)
    top = body.get("top_logprobs")
    if top is not None and not flag:
        raise UsageError("top_logprobs needs logprobs to be true")
    params = _params(
        body,
        max_tokens=_either(body, "max_completion_tokens", "max_tokens"),
        logprobs=(0 if top is None else _integer(top, "top_logprobs")) if flag else None,
    )
    prompt = chat_prompt(body, tokenizer)
    stream, include_usage = _streaming(body)
    return Call(True, (tuple(prompt),), params, stream, include_usage)


def chat_prompt(body: Mapping[str, Any], tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of the `messages` of a body under the model's chat template."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise UsageError("messages must be a list of at least one message")
    checked = [_message(message, index) for index, message in enumerate(messages)]
    text = tokenizer.apply_chat_template(
        checked, add_generation_prompt=_flag(body, "add_generation_prompt", True)
    )
    return encode(text, tokenizer, _flag(body, "add_special_tokens", False))


def encode(text: str, tokenizer: Tokenizer, special_tokens: bool) -> list[int]:
    """Return the tokens of `text`; raise UsageError when it is not valid Unicode."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("the text is not valid Unicode: it holds a lone surrogate")
    return tokenizer.encode(text, special_tokens=special_tokens)


def parse_completion(body: Mapping[str, Any], tokenizer: Tokenizer) -> Call:
    """Return the call of a /v1/completions body; raise UsageError naming the bad field."""
    logprobs = body.get("logprobs")
    params = _params(
        body,
        max_tokens=body.get("max_tokens", _COMPLETION_MAX_TOKENS),
        logprobs=None if logprobs is None else _integer(logprobs, "logprobs"),
    )
    best_of = body.get("best_of")
    if best_of is not None and best_of != params.n:
        raise UsageError(f"best_of must equal n={params.n} or be left out, got {best_of!r}")
    prompts = _prompts(body.get("prompt"), body, tokenizer)
    echo: tuple[str, ...] = ()
    if _flag(body, "echo", False):
        if logprobs is not None:
            raise UsageError("echo with logprobs is not offered; leave one of them out")
        echo = tuple(tokenizer.decode(p, skip_special_tokens=True) for p in prompts)
    stream, include_usage = _streaming(body)
    return Call(False, tuple(map(tuple, prompts)), params, stream, include_usage, echo)


def token_list(value: object, name: str) -> list[int]:
    """Return a list of token ids; raise UsageError otherwise."""
    if not isinstance(value, list):
        raise UsageError(f"{name} must be a list of token ids, got {_kind(value)}")
    for token_id in value:
        if not _is_integer(token_id) or not 0 <= token_id < 2**31:
            raise UsageError(f"{name} must hold token ids, got {token_id!r}")
    return value


def _prompts(value: object, body: Mapping[str, Any], tokenizer: Tokenizer) -> list[list[int]]:
    """Return every prompt's tokens: a text, some texts, a list of tokens, or some of those."""
    many = isinstance(value, list) and bool(value) and not _is_integer(value[0])
    items: list[Any] = value if many else [value]  # type: ignore[assignment]
    if len(items) > MAX_PROMPTS:
        raise UsageError(f"prompt must hold at most {MAX_PROMPTS} prompts, got {len(items)}")
    special = _flag(body, "add_special_tokens", True)
    prompts = []
    for item in items:
        if isinstance(item, str):
            prompts.append(encode(item, tokenizer, special))
        elif isinstance(item, list) and item:
            prompts.append(token_list(item, "prompt"))
        else:
            raise UsageError(
                "prompt must be a text, a list of texts, or a list of token ids, and not empty; "
                f"got {_kind(item)}"
            )
    return prompts


def _params(body: Mapping[str, Any], *, max_tokens: Any, logprobs: int | None) -> SamplingParams:
    for name in _NOT_OFFERED:
        if body.get(name) not in _NEUTRAL:
            raise UsageError(f"{name} is not offered by this server; leave it out")
    given: dict[str, Any] = {name: body[name] for name in _SAME_NAME if body.get(name) is not None}
    given.update({name: _flag(body, name, False) for name in _FLAGS if body.get(name) is not None})
    for name in ("stop_token_ids", "allowed_token_ids"):
        if body.get(name) is not None:
            given[name] = tuple(token_list(body[name], name))
    return SamplingParams(
        max_tokens=max_tokens,
        logprobs=logprobs,
        stop=_stops(body.get("stop")),
        logit_bias=_logit_bias(body.get("logit_bias")),
        **given,
    )


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise UsageError(f"stop must be a text or a list of texts, got {_kind(value)}")
    if len(stops) > MAX_STOPS:
        raise UsageError(f"stop must hold at most {MAX_STOPS} texts, got {len(stops)}")
    return tuple(stops)


def _logit_bias(value: object) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise UsageError(f"logit_bias must map token ids to numbers, got {_kind(value)}")
    for token_id in value:
        if not token_id.isdecimal():
            raise UsageError(f"logit_bias must map token ids to numbers, got key {token_id!r}")
    return tuple((int(token_id), bias) for token_id, bias in value.items())


def _streaming(body: Mapping[str, Any]) -> tuple[bool, bool]:
    stream = _flag(body, "stream", False)
    options = body.get("stream_options")
    if options is None:
        return stream, False
    if not stream:
        raise UsageError("stream_options needs stream to be true")
    if not isinstance(options, dict):
        raise UsageError(f"stream_options must be an object, got {_kind(options)}")
    return stream, _flag(options, "include_usage", False)


def _message(message: object, index: int) -> dict[str, Any]:
    """Return a message with its content as one text."""
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise UsageError(f"{where} must be an object, got {_kind(message)}")
    role = message.get("role")
    if role not in _ROLES:
        raise UsageError(f"{where}.role must be one of {', '.join(_ROLES)}, got {role!r}")
    content = message.get("content")
    if content is None and role == "assistant":
        content = ""
    if isinstance(content, list):
        content = "".join(_text_part(p, f"{where}.content[{i}]") for i, p in enumerate(content))
    if not isinstance(content, str):
        raise UsageError(f"{where}.content must be a text, got {_kind(content)}")
    return {**message, "content": content}


def _text_part(part: object, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        found = part.get("type") if isinstance(part, dict) else _kind(part)
        raise UsageError(f"{where}: this model reads text parts alone, got {found!r}")
    text = part.get("text")
    if not isinstance(text, str):
        raise UsageError(f"{where}.text must be a text, got {_kind(text)}")
    return text


def _either(body: Mapping[str, Any], first: str, second: str) -> Any:
    value = body.get(first)
    return body.get(second) if value is None else value


def _flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, got {value!r}")
    return value


def _integer(value: object, name: str) -> int:
    if not _is_integer(value):
        raise UsageError(f"{name} must be an integer, got {value!r}")
    return value  # type: ignore[return-value]


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: object) -> str:
    """Name the JSON type of a value."""
    names: Mapping[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
    }
    return "null" if value is None else names.get(type(value), "a number")


Parser = Callable[[Mapping[str, Any], Tokenizer], Call]
