"""Tokenizers and chat templates of published models, from the models' own files.

They are read with `transformers`, without PyTorch; importing this module imports neither. Code
that comes with a model is never run, and templates are rendered in a sandbox with limits of time
and memory (`templates`).
"""

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dvaojax import files, hub
from dvaojax.data import templates
from dvaojax.data.templates import TemplateError
from dvaojax.errors import UserError, first_line, import_extra

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

_CALLS = "tool_calls"  # a key of messages

# An answer that no template contains.
_ANSWER = "an-answer-of-the-assistant"

# Templates with their settings whose prompts are known to end where an answer begins.
_OPENED: set[tuple[Any, ...]] = set()

_GENERATION = "generation_config.json"


@dataclasses.dataclass(frozen=True)
class PretrainedTokenizer:
    """The tokenizer of a published model.

    Only the path is stored and recorded with a run; the files are read on first use.

    Attributes:
        path: a directory with the tokenizer's files, `gs://bucket/path`, or a repository of the
            hub, `owner/name` or `owner/name@revision`. A run records the commit.
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
            messages: each with a `role` and a `content`; other keys, such as `tool_calls`, are
                passed to the template.
            tools: JSON schemas of the functions that may be called.
            thinking: "on" or "off" for templates with such a switch; None is the template's
                default. The effect depends on the template: "off" usually ends the prompt with an
                empty thought, "on" with an opened one or none, see `opens_thought`.

        Raises:
            UserError: there is no template, it rejects the messages, exceeds a limit, has no such
                switch, leaves out the tools or the `tool_calls` of a message, or does not open the
                answer.
        """
        template = self._template(tools)
        try:
            return self._chat(template, messages, tools or None, thinking)
        except TemplateError as error:
            raise UserError(f"{self.path}: the chat template failed: {error}") from error

    def _chat(
        self,
        template: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        thinking: Thinking | None,
    ) -> str:
        """The rendered messages, after comparing them with what the template writes for less."""
        special_tokens = _load(self.path).backend.special_tokens_map
        switches = self._thinking_switches(template, thinking)
        variables = {**special_tokens, **switches, "add_generation_prompt": True}
        render = partial(templates.render, template, variables=variables)
        text = render(messages, tools=tools)
        if tools and _renders(render, messages, tools=None) == text:
            raise UserError(
                f"{self.path}: the chat template ignores tools: it writes the same prompt without "
                "them; use a model or a template for tool calls"
            )
        if any(message.get(_CALLS) for message in messages):
            without = [{k: v for k, v in m.items() if k != _CALLS} for m in messages]
            if _renders(render, without, tools=tools) == text:
                raise UserError(f"{self.path}: the chat template ignores {_CALLS} of messages")
        setting = (template, *switches.items(), messages[-1]["role"])
        if setting not in _OPENED:
            self._check_open(template, messages, tools, variables, text)
            _OPENED.add(setting)
        return text

    def _check_open(
        self,
        template: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
        text: str,
    ) -> None:
        """Raises an error if an answer would not follow directly on the rendered prompt.

        A template that reads `add_generation_prompt` ends the prompt differently with it. Another
        one is accepted if the answer is all that it writes after the prompt, as that of Llama 2.
        """
        variables = {**variables, "add_generation_prompt": False}
        render = partial(templates.render, template, tools=tools, variables=variables)
        if _renders(render, messages) != text:
            return
        answer = {"role": "assistant", "content": _ANSWER}
        answered = _renders(render, [*messages, answer])
        if answered is None or not answered.startswith(text):
            return
        between = answered[len(text) :].partition(_ANSWER)[0]
        if _ANSWER in answered and between.strip():
            raise UserError(
                f"{self.path}: the chat template ignores add_generation_prompt: it does not write "
                f"{between!r} after the last message, so the prompt does not begin the answer"
            )

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
        ends = {"eos_token_id": list(self.stop_tokens), "pad_token_id": self.pad_token}
        files.write_json(directory / _GENERATION, {**_generation_config(source), **ends})

    def _template(self, tools: Sequence[Mapping[str, Any]] | None) -> str:
        """The template for messages with or without tools."""
        try:
            template = _load(self.path).backend.get_chat_template(tools=tools or None)
        except ValueError as error:
            raise UserError(
                f"{self.path} has no chat template for this: {first_line(error)}"
            ) from error
        if not isinstance(template, str):
            raise UserError(f"{self.path}: the chat template is not a string")
        return _SAME_DATE + template if "strftime_now" in template else template

    def _thinking_switches(self, template: str, thinking: Thinking | None) -> dict[str, bool]:
        """The template's variables that switch thinking on or off, with their values."""
        if thinking is None:
            return {}
        variables = templates.input_variables(template)
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
        with _quiet(transformers):
            backend = transformers.AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False
            )
        vocabulary = backend.get_vocab()
        vocab_size = max(vocabulary.values()) + 1
    # Malformed files raise errors of many classes, `Exception` itself among them.
    except Exception as error:
        raise UserError(f"{path}: the tokenizer cannot be read: {first_line(error)}") from error
    stop_tokens = _stop_tokens(path, directory, backend, vocabulary)
    for token in stop_tokens:
        if type(token) is not int or not 0 <= token < vocab_size:
            shown = repr(token)[:60]
            raise UserError(f"{path}: stop token {shown} is not in its vocabulary of {vocab_size}")
    pad_token = backend.pad_token_id
    if pad_token is None:
        pad_token = vocabulary.get(_PADDING, stop_tokens[0])
    return _Loaded(backend, vocab_size, pad_token, stop_tokens)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Suppresses the library's warnings about the text of a model's files."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def _stop_tokens(
    path: str, directory: Path, backend: Any, vocabulary: Mapping[str, int]
) -> tuple[Any, ...]:
    """The values listed as tokens that end a completion, without repetition."""
    listed = _generation_config(directory).get("eos_token_id")
    candidates = [
        backend.eos_token_id,
        *(listed if isinstance(listed, list) else [listed]),
        *(vocabulary.get(name) for name in _TURN_ENDS),
    ]
    tokens: list[Any] = []
    for token in candidates:
        if token is not None and token not in tokens:
            tokens.append(token)
    if not tokens:
        raise UserError(
            f"{path}: neither the tokenizer nor generation_config.json defines a stop token"
        )
    return tuple(tokens)


def _generation_config(directory: Path) -> dict[str, Any]:
    """The content of `generation_config.json`; empty if there is no such file."""
    path = directory / _GENERATION
    if not path.exists():
        return {}
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def _renders(render: Callable[..., str], *arguments: Any, **more: Any) -> str | None:
    """The text of a template for other arguments; None if it rejects them."""
    try:
        return render(*arguments, **more)
    except TemplateError:
        return None
