"""Where tokens come from: a model that is really evaluated, or a stream made up for load tests."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emuron.errors import UsageError
from emuron.serving.buckets import pick
from emuron.serving.kv_cache import KVCacheManager
from emuron.serving.request import SampledToken, SamplingParams
from emuron.serving.sampling import Sampler
from emuron.serving.sequence import Sequence, StepPlan

Logits = npt.NDArray[np.float32]


class TokenSource(Protocol):
    """Carries out a step plan; `max_steps` is how many decodes it can do in one call."""

    vocab_size: int
    max_steps: int

    def check(self, params: SamplingParams) -> None:
        """Raise UsageError for parameters that this source cannot honour."""

    def run(self, plan: StepPlan, kv: KVCacheManager) -> Ordered[Ordered[SampledToken]]:
        """Return `plan.steps` new tokens for every sequence of the plan."""


class CausalModel(Protocol):
    """A language model over a block KV cache, evaluated one sequence at a time.

    Each sequence is computed by itself at its own bucket's shape, so its logits are the same bits
    whatever runs beside it.
    """

    vocab_size: int

    def prefill(self, token_ids: Ordered[int], bucket: int, blocks: Ordered[int]) -> Logits:
        """Write the prompt's keys and values into `blocks`; return the last token's logits."""

    def decode(self, token_id: int, position: int, context: int, blocks: Ordered[int]) -> Logits:
        """Append one token at `position`, reading `context` cache slots; return its logits."""


class ModelTokenSource:
    """Tokens of a real model."""

    max_steps = 1

    def __init__(
        self,
        model: CausalModel,
        context_buckets: Ordered[int],
        eos_token_ids: Ordered[int] = (),
    ) -> None:
        """Sample from `model`; `eos_token_ids` are held back until a request's `min_tokens`.

        A sequence decodes in the smallest of `context_buckets` that holds it.
        """
        self.model = model
        self._contexts = context_buckets
        self.vocab_size = model.vocab_size
        self._sampler = Sampler(model.vocab_size, eos_token_ids)

    def check(self, params: SamplingParams) -> None:
        """Refuse token ids that the model does not have."""
        self._sampler.check(params)

    def run(self, plan: StepPlan, kv: KVCacheManager) -> list[list[SampledToken]]:
        """Evaluate the model for each sequence and sample its next token."""
        return [[self._next_token(plan, sequence, kv)] for sequence in plan.sequences]

    def _next_token(self, plan: StepPlan, sequence: Sequence, kv: KVCacheManager) -> SampledToken:
        blocks = kv.block_table(sequence.request_id)
        if plan.kind == "prefill":
            logits = self.model.prefill(sequence.token_ids, plan.token_bucket, blocks)
        else:
            context = pick(self._contexts, sequence.num_tokens)
            position = sequence.num_tokens - 1
            logits = self.model.decode(sequence.last_token_id, position, context, blocks)
        return self._sampler.sample(sequence.request, sequence.output_token_ids, logits)


class SyntheticTokenSource:
    """The same token again and again, at no cost: for load tests, where only time matters."""

    def __init__(
        self, vocab_size: int = 32000, token_id: int = 0, max_steps: int = 1 << 30
    ) -> None:
        """Emit `token_id`, which must not end a request."""
        if not 0 <= token_id < vocab_size:
            raise UsageError(f"token_id must lie in [0, {vocab_size}), got {token_id}")
        self.vocab_size = vocab_size
        self.max_steps = max_steps
        self._token = SampledToken(token_id)

    def check(self, params: SamplingParams) -> None:
        """Refuse what needs logits."""
        if params.logprobs is not None:
            raise UsageError("logprobs cannot be reported: this server makes its tokens up")

    def run(self, plan: StepPlan, kv: KVCacheManager) -> list[list[SampledToken]]:
        """Return `plan.steps` copies of the token for every sequence."""
        tokens = [self._token] * plan.steps
        return [tokens for _ in plan.sequences]
