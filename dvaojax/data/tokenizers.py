"""Tokenizers and chat templates of published models, from the models' own files.

They are read with `transformers`, without PyTorch; importing this module imports neither. Code
that comes with a model is never run, and templates are rendered in a sandbox.
"""

import dataclasses
import functools
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dvaojax import files, hub
from dvaojax.errors import UserError, import_extra

Thinking = Literal["on", "off"]

# End-of-turn tokens. Base models have the vocabulary of their chat models and are trained with
# their templates, but do not always have these as stop tokens.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>")

# Llama 3 has no padding token, but a reserved token for this purpose.
_PADDING = "<|finetune_right_pad_id|>"

# Template variables that switch thinking on or off, in Qwen3, MiniMind and DeepSeek.
_THINKING_SWITCHES = ("enable_thinking", "open_thinking", "thinking")

# Some templates write the current date into the system message, so that a run resumed on another
# day would train on other prompts. This is the default date of Llama 3's templates.
_DATE = "26 Jul 2024"
_SAME_DATE = "{%- macro strftime_now(format) -%}" + _DATE + "{%- endmacro -%}"

_UNKNOWN = "\ufffd"

_GENERATION = "generation_config.json"


@dataclasses.dataclass(frozen=True)
class PretrainedTokenizer:
    """The tokenizer of a published model.

    Only the path is stored and recorded with a run; the files are read on first use.

    Attributes:
        path: a directory with the tokenizer's files, or a repository of the hub, `owner/name` or
            `owner/name@revision`. A run records the commit.
    """

    path: str

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id, added tokens included.

        Not a model's `vocab_size`, which is often padded to more, nor `transformers`'
        `tokenizer.vocab_size`, which leaves the added tokens out.
        """
        return _load(self.path).vocab_size

    @property
    def pad_token(self) -> int:
        """The tokenizer's padding token, or Llama 3's reserved one, or else the stop token."""
        return _load(self.path).pad_token

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Tokens that end a completion, the tokenizer's own EOS token first.

        Includes those listed in `generation_config.json`, and `<|im_end|>`, `<|eot_id|>` and
        `<|eom_id|>` if they are in the vocabulary.
        """
        return _load(self.path).stop_tokens

    def encode(self, text: str) -> list[int]:
        """The text's tokens, without added BOS or EOS.

        Names of special tokens in the text become special tokens: rendered prompts contain them.
        """
        return _load(self.path).backend.encode(text, add_special_tokens=False)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the tokens, without stop tokens and padding.

        All other tokens are kept, including special ones: reward functions need to see `<think>`
        and `</think>`, or a misplaced `<|im_start|>`. Spaces are not cleaned up. Ids beyond the
        vocabulary, which exist if a model's embedding is padded, become U+FFFD.

        Encoding the text again may give other tokens.
        """
        loaded = _load(self.path)
        omitted = {loaded.pad_token, *loaded.stop_tokens}
        runs: list[list[int]] = [[]]
        for token in token_ids:
            if token >= loaded.vocab_size:
                runs.append([])
            elif token not in omitted:
                runs[-1].append(token)
        return _UNKNOWN.join(
            loaded.backend.decode(
                run, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            for run in runs
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: Thinking | None = None,
    ) -> str:
        """Renders messages with the model's chat template, ready for the answer.

        Args:
            messages: each with a `role` and a `content`.
            tools: JSON schemas of the functions that may be called.
            thinking: "on" or "off" for templates with such a switch; None is the template's
                default. The effect depends on the template: "off" usually ends the prompt with an
                empty thought, "on" with an opened one or none, see `opens_thought`.

        Raises:
            UserError: there is no template, it rejects the messages, or it has no such switch.
        """
        backend, template = self._template(tools)
        try:
            switches = self._thinking_switches(template, thinking)
            return backend.apply_chat_template(
                [dict(message) for message in messages],
                tools=None if not tools else [dict(tool) for tool in tools],
                chat_template=template,
                add_generation_prompt=True,
                tokenize=False,
                **switches,
            )
        except UserError:
            raise
        # Templates raise errors of any class, jinja's own among them.
        except Exception as error:
            raise UserError(f"{self.path}: the chat template failed: {_gist(error)}") from error

    def write(self, directory: Path) -> None:
        """Copies the files of the tokenizer, including its chat template.

        `generation_config.json` lists all stop tokens of training, so that a server stops at the
        same ones.
        """
        source = hub.local_directory(self.path, hub.TEXT_FILES)
        for pattern in hub.TEXT_FILES:
            for file in sorted(source.glob(pattern)):
                if file.is_file() and file.name != "config.json":
                    shutil.copyfile(file, directory / file.name)
        generation = directory / _GENERATION
        before = files.read_json(generation) if generation.is_file() else {}
        ends = {"eos_token_id": list(self.stop_tokens), "pad_token_id": self.pad_token}
        files.write_json(generation, {**before, **ends})

    def _template(self, tools: Sequence[Mapping[str, Any]] | None) -> tuple[Any, str]:
        """The loaded tokenizer and the template for messages with or without tools."""
        backend = _load(self.path).backend
        try:
            template = backend.get_chat_template(tools=tools or None)
        except ValueError as error:
            raise UserError(f"{self.path} has no chat template for this: {_gist(error)}") from error
        return backend, _SAME_DATE + template if "strftime_now" in template else template

    def _thinking_switches(self, template: str, thinking: Thinking | None) -> dict[str, bool]:
        """The template's variables that switch thinking on or off, with their values."""
        if thinking is None:
            return {}
        variables = _variables(template)
        switches = [name for name in _THINKING_SWITCHES if name in variables]
        if not switches:
            raise UserError(
                f"{self.path}: the chat template does not support thinking={thinking!r}: it uses "
                f"none of {', '.join(_THINKING_SWITCHES)}"
            )
        return dict.fromkeys(switches, thinking == "on")


def opens_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends with `<think>`; the completion then has no opening tag."""
    return prompt.rstrip().endswith("<think>")


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """A tokenizer read from its files; see `PretrainedTokenizer`."""

    backend: Any
    vocab_size: int
    pad_token: int
    stop_tokens: tuple[int, ...]


@functools.cache
def _load(path: str) -> _Loaded:
    """Reads a tokenizer's files, once per process.

    Raises:
        UserError: the files are missing, cannot be read, or define no stop token.
    """
    # Suppresses the warning that PyTorch is not installed.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    transformers = import_extra("transformers", extra="hf")
    directory = hub.local_directory(path, hub.TEXT_FILES)
    try:
        backend = transformers.AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    # Malformed files raise errors of many classes, `Exception` itself among them.
    except Exception as error:
        raise UserError(f"{path}: the tokenizer cannot be read: {_gist(error)}") from error
    vocabulary = backend.get_vocab()
    vocab_size = max(vocabulary.values()) + 1
    stop_tokens = _stop_tokens(path, directory, backend, vocabulary)
    for token in stop_tokens:
        if not 0 <= token < vocab_size:
            raise UserError(f"{path}: stop token {token} is not in its vocabulary of {vocab_size}")
    pad_token = backend.pad_token_id
    if pad_token is None:
        pad_token = vocabulary.get(_PADDING, stop_tokens[0])
    return _Loaded(backend, vocab_size, pad_token, stop_tokens)


def _stop_tokens(
    path: str, directory: Path, backend: Any, vocabulary: Mapping[str, int]
) -> tuple[int, ...]:
    """The tokens that end a completion, without repetition."""
    candidates = [] if backend.eos_token_id is None else [backend.eos_token_id]
    generation = directory / _GENERATION
    if generation.is_file():
        listed = files.read_json(generation).get("eos_token_id", [])
        candidates += listed if isinstance(listed, list) else [listed]
    candidates += [vocabulary[name] for name in _TURN_ENDS if name in vocabulary]
    tokens = tuple(dict.fromkeys(token for token in candidates if token is not None))
    if not tokens:
        raise UserError(
            f"{path}: neither the tokenizer nor generation_config.json defines a stop token"
        )
    return tokens


@functools.cache
def _variables(template: str) -> frozenset[str]:
    """The input variables of a template; cached because every prompt needs them."""
    jinja2, meta = (import_extra(name, extra="hf") for name in ("jinja2", "jinja2.meta"))
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    # A tag of transformers around the assistant's text, unknown to jinja.
    plain = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template)
    return frozenset(meta.find_undeclared_variables(environment.parse(plain)))


def _gist(error: Exception) -> str:
    """The first line of an error."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
