"""What a request body may say, and how a bad one is refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.errors import UsageError
from emuron.serving.openai_protocol import parse_chat, parse_completion, parse_json

HELLO = [{"role": "user", "content": "Hello"}]


def test_a_chat_is_written_with_the_template(tokenizer: Tokenizer) -> None:
    call = parse_chat({"messages": HELLO, "max_completion_tokens": 7, "top_k": 5}, tokenizer)
    text = tokenizer.decode(call.prompts[0], skip_special_tokens=False)
    assert text == "<s><|user|>Hello</s><|assistant|>"
    assert (call.params.max_tokens, call.params.top_k) == (7, 5)


def test_content_parts_are_joined(tokenizer: Tokenizer) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    whole = parse_chat({"messages": HELLO}, tokenizer)
    assert parse_chat({"messages": [{"role": "user", "content": parts}]}, tokenizer) == whole


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("Hello", 1), (["Hello", "you"], 2), ([5, 6, 7], 1), ([[5, 6], [7]], 2)],
)
def test_a_prompt_is_a_text_or_tokens_or_a_list_of_either(
    tokenizer: Tokenizer, prompt: Any, count: int
) -> None:
    assert len(parse_completion({"prompt": prompt}, tokenizer).prompts) == count


def test_null_means_left_out(tokenizer: Tokenizer) -> None:
    body = {"messages": HELLO, "temperature": None, "stop": None, "stream": None, "tools": None}
    assert parse_chat(body, tokenizer) == parse_chat({"messages": HELLO}, tokenizer)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "messages must be a list of at least one message"),
        ({"messages": "hi"}, "messages must be a list"),
        ({"messages": [5]}, r"messages\[0\] must be an object"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].role must be one of"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content must be a text, got null"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            r"content\[0\]: this model reads text parts alone, got 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "lone surrogate"),
        ({"n": 100_000}, "n must be an integer between 1 and 128"),
        ({"max_tokens": -1}, "max_tokens must be an integer at least 1"),
        ({"max_tokens": "many"}, "max_tokens must be an integer"),
        ({"temperature": 1e999}, "temperature must be a number"),
        ({"stop": list("abcde")}, "stop must hold at most 4 texts, got 5"),
        ({"stop": [1]}, "stop must be a text or a list of texts"),
        ({"stop": [""]}, "stop must not contain an empty string"),
        ({"stream": "yes"}, "stream must be true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream"),
        ({"top_logprobs": 3}, "top_logprobs needs logprobs"),
        ({"logprobs": True, "top_logprobs": 30}, "logprobs must be an integer between 0 and 20"),
        ({"logit_bias": {"x": 1}}, "logit_bias must map token ids"),
        ({"logit_bias": {"1": "much"}}, r"logit_bias\[1\] must be a number"),
        ({"stop_token_ids": [-1]}, "stop_token_ids must hold token ids"),
        ({"tools": [{"type": "function"}]}, "tools is not offered"),
        ({"response_format": {"type": "json_object"}}, "response_format is not offered"),
    ],
)
def test_a_bad_field_is_refused_by_name(
    tokenizer: Tokenizer, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse_chat({"messages": HELLO, **fields}, tokenizer)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "prompt must be a text.*got null"),
        ({"prompt": []}, "prompt must be a text.*got a list"),
        ({"prompt": [[]]}, "and not empty"),
        ({"prompt": [[1.5]]}, "prompt must hold token ids, got 1.5"),
        ({"prompt": ["x"] * 200}, "at most 128 prompts, got 200"),
        ({"best_of": 3}, "best_of must equal n=1"),
        ({"echo": True, "logprobs": 1}, "echo with logprobs"),
        ({"suffix": "x"}, "suffix is not offered"),
    ],
)
def test_a_bad_completion_field_is_refused_by_name(
    tokenizer: Tokenizer, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse_completion({"prompt": "Hello", **fields}, tokenizer)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[1]", "must be a JSON object, got a list"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_malformed_body_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_json(data)


def test_a_good_body_is_read() -> None:
    assert parse_json(json.dumps({"a": 1}).encode()) == {"a": 1}


TEXTS = st.sampled_from(("", "x", "7", "text", "type", "role", "content", "é", "\ud800"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)
FIELDS = (
    *("messages", "prompt", "n", "temperature", "top_p", "top_k", "max_tokens", "stop", "seed"),
    *("stream", "stream_options", "logprobs", "top_logprobs", "logit_bias", "echo", "tools"),
    *("stop_token_ids", "allowed_token_ids", "min_tokens", "best_of", "response_format"),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.booleans())
def test_any_json_is_understood_or_refused_as_a_usage_error(
    tokenizer: Tokenizer, fields: dict[str, Any], chat: bool
) -> None:
    body = {"messages": HELLO, "prompt": "Hello"} | fields
    with contextlib.suppress(UsageError):
        (parse_chat if chat else parse_completion)(body, tokenizer)
