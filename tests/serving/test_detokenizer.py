"""Text as it grows, against decoding everything at once."""

from collections.abc import Sequence

import pytest

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.serving.detokenizer import Detokenizer


def stream(detokenizer: Detokenizer, token_ids: Sequence[int]) -> tuple[str, str | None]:
    """The pieces given out, joined, and the stop string that was hit."""
    pieces = []
    for token_id in token_ids:
        stop = detokenizer.push(token_id)
        pieces.append(detokenizer.take(finished=stop is not None))
        if stop is not None:
            return "".join(pieces), stop
    detokenizer.flush()
    return "".join([*pieces, detokenizer.take(finished=True)]), None


@pytest.mark.parametrize("text", ["Hello! How are you?", "naïve 漢字 🙂 done", "  spaces  "])
def test_pieces_add_up_to_the_whole_text(tokenizer: Tokenizer, text: str) -> None:
    prompt = tokenizer.encode("A chip")
    detokenizer = Detokenizer(tokenizer, prompt)
    assert stream(detokenizer, tokenizer.encode(text))[0] == text


def test_no_piece_holds_half_a_character(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer, tokenizer.encode("x"))
    for token_id in tokenizer.encode("🙂漢"):
        detokenizer.push(token_id)
        assert "\ufffd" not in detokenizer.take(finished=False)
    assert detokenizer.text == "🙂漢"


@pytest.mark.parametrize(("include", "expected"), [(False, "Hello! How"), (True, "Hello! How are")])
def test_a_stop_string_across_tokens_ends_the_text(
    tokenizer: Tokenizer, include: bool, expected: str
) -> None:
    detokenizer = Detokenizer(tokenizer, [5], stop=("zzz", " are"), include_stop=include)
    assert stream(detokenizer, tokenizer.encode("Hello! How are you?")) == (expected, " are")


def test_the_earliest_stop_string_wins(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer, [5], stop=("w are", "How"))
    assert stream(detokenizer, tokenizer.encode("Hello! How are you?")) == ("Hello! ", "How")


def test_a_stop_string_within_min_tokens_is_passed_over(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("Hello! How are you? How")
    detokenizer = Detokenizer(tokenizer, [5], stop=("How",), min_tokens=len(token_ids) - 2)
    assert stream(detokenizer, token_ids) == ("Hello! How are you? ", "How")


def test_text_that_may_begin_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer, [5], stop=("stop!",))
    for token_id in tokenizer.encode("so stop"):
        assert detokenizer.push(token_id) is None
    assert detokenizer.take(finished=False) == "so "
    assert detokenizer.take(finished=True) == "stop"
