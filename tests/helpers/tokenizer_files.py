"""Writes directories with the files of a tokenizer, like those of published models."""

import importlib.util
import json
from pathlib import Path

import pytest
import tokenizers
from shared_data import shared

# Shortened versions of published templates, equal in the aspects that are tested.
QWEN2_5 = """\
{%- set given = messages[0].role == 'system' %}
{%- set start = messages[0].content if given
    else 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}
{{- '<|im_start|>system\\n' + start }}
{%- if tools %}
    {{- '\\n\\n# Tools\\n\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '\\n</tools>\\n\\n<tool_call>\\n{\\"name\\": <function-name>, '
        + '\\"arguments\\": <args-json-object>}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in (messages[1:] if given else messages) %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
LLAMA3 = """\
{%- for message in messages %}
    {{- (bos_token if loop.first else '') + '<|start_header_id|>' + message.role
        + '<|end_header_id|>\\n\\n' + (message.content | trim) + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
LLAMA3_DATED = """\
{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{{- bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: '
    + 'December 2023\\nToday Date: ' + date_string + '\\n\\n<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n'
        + message.content + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
OPENS_THINK = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
LLAMA_SPECIALS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
)  # fmt: skip


def published(name: str) -> str:
    """A published chat template, from the files of TRL, which is not imported."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("needs the files of trl, from the extra `bench`")
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text()


def qwen3_template() -> str:
    """The published chat template of Qwen3."""
    path = shared("tokenizers", "qwen3_config_only", "tokenizer_config.json")
    return json.loads(path.read_text())["chat_template"]


def write(
    directory: Path,
    *,
    specials: tuple[str, ...] = CHATML,
    template: str | None = None,
    generation: dict | None = None,
    **config: str | None,
) -> str:
    """Writes a byte-level tokenizer with some added tokens; returns its path.

    Args:
        directory: an empty directory.
        specials: special tokens after the bytes; they are followed by the tags that Qwen marks as
            not special.
        template: the chat template.
        generation: the content of `generation_config.json`.
        config: further entries of `tokenizer_config.json`, such as `eos_token`.
    """
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    vocabulary["ab"] = len(vocabulary)
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("a", "b")]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in specials])
    backend.add_tokens([tokenizers.AddedToken(name, special=False) for name in TAGS])
    backend.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    if template is not None:
        settings["chat_template"] = template
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    return str(directory)
