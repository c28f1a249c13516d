"""The state of a request inside the engine, and the plan of one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emuron.serving.detokenizer import Detokenizer
from emuron.serving.request import Request, RequestTimes

StepKind = Literal["prefill", "decode"]


class Sequence:
    """A request under way: its tokens so far and its moments."""

    __slots__ = ("detokenizer", "num_prompt", "output_token_ids", "remaining", "request", "times")

    def __init__(
        self, request: Request, max_model_len: int, detokenizer: Detokenizer | None = None
    ) -> None:
        """Start with no output; `remaining` counts the tokens that may still come."""
        self.request = request
        self.detokenizer = detokenizer
        self.num_prompt = len(request.prompt_token_ids)
        self.output_token_ids: list[int] = []
        room = max_model_len - self.num_prompt
        wanted = request.params.max_tokens
        self.remaining = room if wanted is None else min(wanted, room)
        self.times = RequestTimes(request.arrival_ps)

    @property
    def request_id(self) -> str:
        """The request's name."""
        return self.request.request_id

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and output."""
        return self.num_prompt + len(self.output_token_ids)

    @property
    def token_ids(self) -> list[int]:
        """The tokens of prompt and output."""
        return [*self.request.prompt_token_ids, *self.output_token_ids]

    @property
    def last_token_id(self) -> int:
        """The newest token."""
        tokens = self.output_token_ids
        return tokens[-1] if tokens else self.request.prompt_token_ids[-1]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: which sequences, padded to which compiled shape.

    A prefill computes all tokens of one sequence in a bucket of `token_bucket`; a decode computes
    one token of each sequence in a batch of `batch_bucket` with `context` tokens of KV cache.
    `steps` > 1 stands for that many equal decodes in a row.
    """

    kind: StepKind
    sequences: tuple[Sequence, ...]
    batch_bucket: int
    token_bucket: int
    context: int
    steps: int = 1

    @property
    def padded_tokens(self) -> int:
        """Token slots of the compiled shape that compute nothing anyone reads."""
        if self.kind == "prefill":
            return self.token_bucket - self.sequences[0].num_tokens
        return self.batch_bucket - len(self.sequences)
