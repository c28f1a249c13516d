"""A model's tokenizer and its chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emuron.compiler.frontends.weights import read_json
from emuron.errors import ModelFileError, UsageError


@dataclass(frozen=True, slots=True)
class Encoding:
    """Padded token ids, the mask of real tokens and the segment of each; int32 [batch, length]."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """tokenizer.json run by the `tokenizers` library, with what tokenizer_config.json adds."""

    backend: Any
    settings: Mapping[str, Any]
    chat_template: str | None
    where: str

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json and tokenizer_config.json; raise ModelFileError naming the fault."""
        import tokenizers

        path = folder / "tokenizer.json"
        try:
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
        except Exception as error:  # the library raises bare Exception
            raise ModelFileError(f"{path} is not a tokenizer: {error}") from error
        backend.no_padding()
        backend.no_truncation()
        extra = folder / "tokenizer_config.json"
        settings = read_json(extra) if extra.is_file() else {}
        return cls(backend, settings, _chat_template(folder, settings), str(folder))

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Return the token ids of a text."""
        return list(self.backend.encode(text, add_special_tokens=special_tokens).ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids."""
        return str(self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def encode_batch(self, texts: Sequence[str], length: int) -> Encoding:
        """Encode texts padded on the right to `length`; raise UsageError if one is longer."""
        encodings = self.backend.encode_batch(list(texts))
        shape = (len(encodings), length)
        ids = np.full(shape, self.token_id("pad_token") or 0, np.int32)
        mask, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for row, encoding in enumerate(encodings):
            count = len(encoding.ids)
            if count > length:
                raise UsageError(
                    f"text {row} has {count} tokens, more than the sequence length {length} "
                    "that the graph was built for"
                )
            ids[row, :count], mask[row, :count] = encoding.ids, 1
            segments[row, :count] = encoding.type_ids
        return Encoding(ids, mask, segments)

    def token_id(self, role: str) -> int | None:
        """Return the id of a special token ("eos_token", "pad_token" ...), None if not named."""
        token = self.settings.get(role)
        text = token.get("content") if isinstance(token, Mapping) else token
        return None if not isinstance(text, str) else self.backend.token_to_id(text)

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt of a chat; raise UsageError if the template refuses the messages."""
        import jinja2

        if self.chat_template is None:
            raise UsageError(f"{self.where} has no chat template; send a plain prompt instead")
        tokens = {r: self._token_text(r) for r in ("bos_token", "eos_token", "pad_token")}
        try:
            template = _environment().from_string(self.chat_template)
            prompt = template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **tokens
            )
        except jinja2.TemplateError as error:
            raise UsageError(f"the chat template of {self.where} refuses: {error}") from error
        return str(prompt)

    def _token_text(self, role: str) -> str:
        token = self.settings.get(role)
        text = token.get("content") if isinstance(token, Mapping) else token
        return text if isinstance(text, str) else ""


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, Mapping)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _environment() -> Any:
    """Return a sandbox: a template comes with the weights and is not to be trusted."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    return environment
