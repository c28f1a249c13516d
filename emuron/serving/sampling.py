"""Logits to tokens: penalties, temperature, cuts, and a draw that depends on the request alone."""

from __future__ import annotations

from collections.abc import Sequence as Ordered

import numpy as np
import numpy.typing as npt

from emuron.errors import UsageError
from emuron.serving.request import Request, SampledToken, SamplingParams

Array = npt.NDArray[np.float64]

_SEED_MASK = 2**64 - 1


class Sampler:
    """Chooses one token from the logits of one sequence.

    The draw of token `i` comes from a counter-based generator keyed by (request seed, i), so a
    request's text does not depend on what else is in the batch.
    """

    def __init__(self, vocab_size: int, eos_token_ids: Ordered[int] = ()) -> None:
        """Sample over `vocab_size` tokens; `eos_token_ids` are held back until `min_tokens`."""
        self.vocab_size = vocab_size
        self._eos = tuple(eos_token_ids)

    def sample(
        self, request: Request, output_token_ids: Ordered[int], logits: npt.NDArray[np.float32]
    ) -> SampledToken:
        """Return the next token after `output_token_ids`, given float32 logits [vocab_size]."""
        params = request.params
        raw = np.asarray(logits, np.float64)
        shaped = self._process(request, output_token_ids, raw)
        if params.greedy:
            token_id = int(shaped.argmax())
        else:
            token_id = _draw(shaped, params, request.seed, len(output_token_ids))
        if params.logprobs is None:
            return SampledToken(token_id)
        return _with_logprobs(token_id, raw, params.logprobs)

    def check(self, params: SamplingParams) -> None:
        """Raise UsageError for token ids beyond the vocabulary."""
        named = {
            "logit_bias": [token_id for token_id, _ in params.logit_bias],
            "allowed_token_ids": params.allowed_token_ids or (),
            "stop_token_ids": params.stop_token_ids,
        }
        for name, token_ids in named.items():
            for token_id in token_ids:
                if not 0 <= token_id < self.vocab_size:
                    raise UsageError(
                        f"{name} names token {token_id}, but this model has tokens 0 to "
                        f"{self.vocab_size - 1}"
                    )

    def _process(self, request: Request, output: Ordered[int], raw: Array) -> Array:
        params = request.params
        logits = raw.copy()
        if params.allowed_token_ids is not None:
            allowed = np.full_like(logits, -np.inf)
            ids = list(params.allowed_token_ids)
            allowed[ids] = logits[ids]
            logits = allowed
        for token_id, bias in params.logit_bias:
            logits[token_id] += bias
        if len(output) < params.min_tokens:
            held = logits.copy()
            held[[*self._eos, *params.stop_token_ids]] = -np.inf
            logits = held if np.isfinite(held).any() else logits
        _penalize(logits, params, request.prompt_token_ids, output)
        return logits


def _penalize(
    logits: Array, params: SamplingParams, prompt: Ordered[int], output: Ordered[int]
) -> None:
    """Apply the penalties in place: repetition over prompt and output, the others over output."""
    if params.repetition_penalty != 1.0:
        seen = np.unique(np.array([*prompt, *output], np.int64))
        values = logits[seen]
        penalty = params.repetition_penalty
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
    if output and (params.frequency_penalty or params.presence_penalty):
        seen, counts = np.unique(np.array(output, np.int64), return_counts=True)
        logits[seen] -= params.frequency_penalty * counts + params.presence_penalty


def _draw(logits: Array, params: SamplingParams, seed: int, index: int) -> int:
    """Draw from the softmax of the logits that temperature, min_p, top_k and top_p leave."""
    order = np.argsort(-logits, kind="stable")
    if params.top_k > 0:
        order = order[: params.top_k]
    scaled = logits[order] / params.temperature
    probs = np.exp(scaled - scaled[0])
    probs /= probs.sum()
    probs = probs[probs >= params.min_p * probs[0]]  # sorted, so every cut leaves a head
    if params.top_p < 1.0:
        before = (probs.cumsum() - probs) / probs.sum()
        probs = probs[before < params.top_p]
    cumulative = probs.cumsum()
    key = np.array([seed & _SEED_MASK, index], np.uint64)  # a list would go through float64
    generator = np.random.Generator(np.random.Philox(key=key))
    at = int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))
    return int(order[min(at, len(probs) - 1)])


def _with_logprobs(token_id: int, raw: Array, count: int) -> SampledToken:
    """Return the token with log probabilities of the unprocessed logits, as vLLM reports them."""
    peak = raw.max()
    logprobs = raw - (peak + np.log(np.exp(raw - peak).sum()))
    best = np.argsort(-raw, kind="stable")[:count]
    top = tuple((int(i), float(logprobs[i])) for i in best)
    return SampledToken(token_id, float(logprobs[token_id]), top)
