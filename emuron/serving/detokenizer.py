"""Tokens to text, one token at a time: whole characters only, and no further than a stop string."""

from __future__ import annotations

from collections.abc import Sequence as Ordered

from emuron.compiler.frontends.tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"  # what a decoder writes for the first bytes of an unfinished character


class Detokenizer:
    """The text of one request's output as it grows.

    Text that may turn out to begin a stop string is held back until that is settled.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Ordered[int],
        *,
        stop: tuple[str, ...] = (),
        min_tokens: int = 0,
        include_stop: bool = False,
        skip_special_tokens: bool = True,
    ) -> None:
        """Start after the prompt, whose last tokens decide about leading spaces."""
        self._tokenizer = tokenizer
        self._skip_special = skip_special_tokens
        self._tokens = list(prompt_token_ids[-5:])
        self._begin = 0  # the window that is decoded again with every token
        self._read = len(self._tokens)
        self._stop = stop
        self._include_stop = include_stop
        self._unchecked = min_tokens
        self._hold = max((len(s) for s in stop), default=1) - 1
        self._given = 0
        self.text = ""

    def push(self, token_id: int) -> str | None:
        """Add a token; return the stop string that its text completes, if any."""
        self._tokens.append(token_id)
        before = self._decode(self._tokens[self._begin : self._read])
        now = self._decode(self._tokens[self._begin :])
        grown = ""
        if len(now) > len(before) and not now.endswith(_REPLACEMENT):
            grown = now[len(before) :]
            self._begin, self._read = self._read, len(self._tokens)
        self._unchecked -= 1
        searched = len(self.text)
        self.text += grown
        return self._find_stop(searched) if grown and self._unchecked < 0 else None

    def take(self, finished: bool) -> str:
        """Return the text that has become certain since the last call."""
        if finished:
            end = len(self.text)
        else:
            end = max(self._given, len(self.text) - self._hold)
        new = self.text[self._given : end]
        self._given = end
        return new

    def flush(self) -> None:
        """Add what an unfinished character at the end decodes to."""
        before = self._decode(self._tokens[self._begin : self._read])
        self.text += self._decode(self._tokens[self._begin :])[len(before) :]
        self._begin = self._read = len(self._tokens)

    def _find_stop(self, searched: int) -> str | None:
        first: tuple[int, str] | None = None
        for stop in self._stop:
            at = self.text.find(stop, max(self._given, searched - len(stop) + 1))
            if at >= 0 and (first is None or at < first[0]):
                first = (at, stop)
        if first is None:
            return None
        at, stop = first
        self.text = self.text[: at + len(stop) if self._include_stop else at]
        return stop

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special)
