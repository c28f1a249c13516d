"""The tokenizer of a Hugging Face folder: text to tokens and back, and the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as RustTokenizer

from emuron.errors import ModelFileError, UsageError


class Tokenizer:
    """Reads `tokenizer.json`, `tokenizer_config.json` and the chat template of a model folder."""

    def __init__(self, folder: str | Path) -> None:
        """Load the folder's tokenizer; raise ModelFileError when it cannot be read."""
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelFileError(
                f"{folder}: there is no tokenizer.json; serving needs a Hugging Face folder with "
                "config.json, *.safetensors and tokenizer.json"
            )
        try:
            self._rust = RustTokenizer.from_file(str(path))
        except Exception as error:
            raise ModelFileError(f"{path}: not a tokenizer that can be read: {error}") from error
        self._config = _read_config(folder / "tokenizer_config.json")
        self._specials = {
            name: _token_text(self._config.get(name)) for name in ("bos_token", "eos_token")
        }
        self._template = self._load_template(folder)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        return int(self._rust.get_vocab_size(with_added_tokens=True))

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, if the folder names one."""
        text = self._specials["eos_token"]
        return None if text is None else self._rust.token_to_id(text)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of `text`; raise UsageError when it is not valid Unicode."""
        try:
            return list(self._rust.encode(text, add_special_tokens=add_special_tokens).ids)
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text is not valid Unicode: a lone surrogate at character {error.start}"
            ) from error

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of the tokens."""
        return str(self._rust.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def token_text(self, token_id: int) -> str:
        """Return the text of one token by itself."""
        return self.decode([token_id])

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt of a conversation; raise UsageError when the template refuses it."""
        if self._template is None:
            raise UsageError(
                "this model has no chat template, so /v1/chat/completions cannot be used; use "
                "/v1/completions, or add chat_template to tokenizer_config.json"
            )
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self._specials
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise UsageError(f"messages do not fit the model's chat template: {error}") from error

    def _load_template(self, folder: Path) -> Template | None:
        source = self._config.get("chat_template")
        if isinstance(source, list):  # several named templates
            source = next((t["template"] for t in source if t.get("name") == "default"), None)
        path = folder / "chat_template.jinja"
        if source is None and path.is_file():
            source = path.read_text(encoding="utf-8")
        if source is None:
            return None
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        environment.filters["tojson"] = lambda value, **options: json.dumps(
            value, ensure_ascii=False, **options
        )
        try:
            return environment.from_string(source)
        except TemplateError as error:
            raise ModelFileError(f"{folder}: the chat template does not parse: {error}") from error


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _token_text(value: object) -> str | None:
    """Return the text of a special token, which may be written as an object."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFileError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config
