"""Tokenizers and chat templates of published models."""

import datetime
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import shared
from tokenizer_files import (
    CHATML,
    LLAMA3,
    LLAMA3_DATED,
    LLAMA_SPECIALS,
    OPENS_THINK,
    QWEN2_5,
    published,
    qwen3_template,
    write,
)

from dvaojax.config.from_json import from_json
from dvaojax.data.text import decode_completions
from dvaojax.data.tokenizers import PretrainedTokenizer, opens_thought
from dvaojax.errors import UserError
from dvaojax.run.description import config_to_json
from dvaojax.types import Rollout, Tokenizer

USER = {"role": "user", "content": "What is 2+2?"}
SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
CHATML_ENDS = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


@pytest.fixture(scope="module")
def minimind():
    return PretrainedTokenizer(str(shared("tokenizers", "minimind")))


@pytest.fixture
def made(tmp_path):
    """Factory of byte tokenizers with a given template and added tokens."""

    def make(template=None, **settings):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        return PretrainedTokenizer(write(directory, template=template, **settings))

    return make


def test_minimind_properties(minimind):
    assert minimind.vocab_size == 6400
    assert minimind.encode("Hello world!") == [1602, 1707, 36]
    assert (minimind.pad_token, minimind.stop_tokens) == (0, (2,))
    assert isinstance(minimind.encode("a"), list)
    tokenizer: Tokenizer = minimind  # for the type checker
    assert tokenizer.decode([1602, 1707, 36]) == "Hello world!"


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_encode_decode_round_trip(minimind, text):
    assert minimind.decode(minimind.encode(text)) == text


@pytest.mark.parametrize("text", ["a , b .", " 'tis  n't\t", "\\frac{1}{2} \\boxed{4}", "日本 🙂"])
def test_spaces_are_preserved(minimind, text):
    assert minimind.decode(minimind.encode(text)) == text


def test_decode_keeps_tags_and_drops_stop_and_padding_tokens(minimind):
    tokens = minimind.encode("<think>a</think><tool_call>{}</tool_call>")
    assert (tokens[0], tokens[-1]) == (25, 22)
    sampled = [*tokens, *minimind.stop_tokens, minimind.pad_token, minimind.pad_token]
    assert minimind.decode(sampled) == "<think>a</think><tool_call>{}</tool_call>"


def test_decode_keeps_misplaced_special_token(minimind):
    assert minimind.decode([*minimind.encode("4"), 1, *minimind.encode("2")]) == "4<|im_start|>2"


def test_ids_beyond_the_vocabulary_become_replacement_characters(minimind):
    four, two = minimind.encode("4"), minimind.encode("2")
    assert minimind.decode([*four, 6400, *two, 10_000_000]) == "4\ufffd2\ufffd"


def test_character_of_several_tokens_is_reassembled(made):
    tokenizer = made(**CHATML_ENDS)
    tokens = tokenizer.encode("é🙂")
    assert len(tokens) == 6
    assert tokenizer.decode(tokens) == "é🙂"
    assert tokenizer.decode(tokens[:1]) == "\ufffd"


def test_sampled_ids_are_not_re_encoded(made):
    tokenizer = made(**CHATML_ENDS)
    apart = [*tokenizer.encode("a"), *tokenizer.encode("b")]
    assert tokenizer.encode(tokenizer.decode(apart)) != apart
    tokens = np.array([[[*apart, tokenizer.stop_tokens[0]]]])
    rollout = Rollout(
        tokens, np.ones_like(tokens, bool), np.zeros(tokens.shape), np.array([[True]])
    )
    ((completion,),) = decode_completions(tokenizer, rollout)
    assert completion.text == "ab"
    assert completion.token_ids == (*apart, tokenizer.stop_tokens[0])


def test_stop_tokens_from_all_files_without_repetition(made):
    end = made(**CHATML_ENDS).encode("<|im_end|>")[0]
    text_end = end - 2
    assert made(**CHATML_ENDS).stop_tokens == (end,)
    # A base model has another EOS token than the chat model whose template it has.
    assert made(eos_token="<|endoftext|>", pad_token="<|endoftext|>").stop_tokens == (text_end, end)
    assert made(**CHATML_ENDS, generation={"eos_token_id": [end, text_end]}).stop_tokens == (
        end,
        text_end,
    )
    assert made(**CHATML_ENDS, generation={"eos_token_id": text_end}).stop_tokens == (end, text_end)
    assert made(**CHATML_ENDS, generation={"eos_token_id": None}).stop_tokens == (end,)


def test_llama_padding_and_stop_tokens(made):
    llama = made(
        LLAMA3,
        specials=LLAMA_SPECIALS,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        generation={"eos_token_id": [258, 262, 263]},
    )
    names = {name: llama.encode(name)[0] for name in LLAMA_SPECIALS}
    assert llama.pad_token == names["<|finetune_right_pad_id|>"]
    assert set(llama.stop_tokens) == {
        names[name] for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
    }
    assert llama.stop_tokens[0] == names["<|eot_id|>"]
    assert llama.pad_token not in llama.stop_tokens
    assert "<|python_tag|>" in llama.decode([names["<|python_tag|>"]])


def test_stop_token_is_fallback_padding(made):
    tokenizer = made(eos_token="<|im_end|>")
    assert tokenizer.pad_token == tokenizer.stop_tokens[0]
    assert tokenizer.decode([0, tokenizer.pad_token]) == tokenizer.decode([0])  # 0 is a letter


def test_vocabulary_includes_added_tokens(made):
    tokenizer = made(**CHATML_ENDS)
    assert tokenizer.vocab_size == 257 + len(CHATML) + 6
    assert tokenizer.encode("</think>") == [tokenizer.vocab_size - 1]


# Chat templates.


@pytest.fixture(params=["equivalent", "published"])
def qwen2_5(request, made):
    template = QWEN2_5 if request.param == "equivalent" else published("qwen2_5")
    return made(template, **CHATML_ENDS)


@pytest.fixture
def qwen3(made):
    return made(qwen3_template(), **CHATML_ENDS)


@pytest.fixture(params=["equivalent", "published"])
def llama3(request, made):
    template = LLAMA3 if request.param == "equivalent" else published("llama3")
    return made(
        template, specials=LLAMA_SPECIALS, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )


def test_qwen2_5_default_system_message(qwen2_5):
    rendered = qwen2_5.chat([USER])
    assert rendered.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.")
    assert rendered.endswith("<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n")
    assert "Alibaba" not in qwen2_5.chat([SYSTEM, USER])
    assert "Be brief." in qwen2_5.chat([SYSTEM, USER])


def test_qwen2_5_has_no_thinking_switch(qwen2_5):
    with pytest.raises(UserError, match=r"does not support thinking='off'.*enable_thinking"):
        qwen2_5.chat([USER], thinking="off")


def test_qwen3_thinks_by_default(qwen3):
    by_default = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert qwen3.chat([USER]) == by_default
    assert qwen3.chat([USER], thinking="on") == by_default
    assert qwen3.chat([USER], thinking="off") == by_default + "<think>\n\n</think>\n\n"
    assert not opens_thought(qwen3.chat([USER], thinking="off"))


def test_qwen3_drops_earlier_thoughts(qwen3):
    answer = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4"}
    rendered = qwen3.chat([USER, answer, {"role": "user", "content": "And 3+3?"}])
    assert "hm" not in rendered
    assert "<|im_start|>assistant\n4<|im_end|>" in rendered


def test_minimind_does_not_think_by_default(minimind):
    closed = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert minimind.chat([USER]).endswith(closed)
    assert minimind.chat([USER], thinking="off").endswith(closed)
    opened = minimind.chat([USER], thinking="on")
    assert opened.endswith("<|im_start|>assistant\n<think>\n")
    assert opens_thought(opened)
    assert not opens_thought(closed)


@pytest.mark.parametrize("source", ["equivalent", "published"])
def test_template_may_open_the_thought(made, source):
    template = OPENS_THINK if source == "equivalent" else published("deepseek_r1_distill")
    assert opens_thought(made(template, **CHATML_ENDS, bos_token="<|im_start|>").chat([USER]))


def test_template_renders_tools(qwen2_5, qwen3, minimind):
    for tokenizer in (qwen2_5, qwen3, minimind):
        rendered = tokenizer.chat([SYSTEM, USER], tools=[TOOL])
        assert "# Tools" in rendered
        # The key is `arguments`, not `parameters` as in ToolRL.
        assert '{"name": <function-name>, "arguments": <args-json-object>}' in rendered
        listed = rendered.partition("<tools>\n")[2].partition("\n</tools>")[0]
        assert json.loads(listed) == TOOL
        assert rendered.index("Be brief.") < rendered.index("# Tools")
        assert "# Tools" not in tokenizer.chat([SYSTEM, USER], tools=[])


def test_tool_results_are_a_user_turn(qwen3):
    call = {"name": "add", "arguments": {"a": 2}}
    rendered = qwen3.chat(
        [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [{"function": call}]},
            {"role": "tool", "content": "4"},
        ]
    )
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>' in rendered
    assert "<|im_start|>user\n<tool_response>\n4\n</tool_response><|im_end|>" in rendered


def test_llama3_has_one_bos_and_trims_text(llama3):
    rendered = llama3.chat([{"role": "user", "content": " hi \n"}])
    assert rendered == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    begin = llama3.encode("<|begin_of_text|>")
    assert len(begin) == 1
    assert llama3.encode(rendered).count(begin[0]) == 1


@pytest.mark.parametrize("source", ["equivalent", "published"])
def test_dated_template_renders_a_fixed_date(made, source):
    template = LLAMA3_DATED if source == "equivalent" else published("llama3_2")
    llama = made(
        template, specials=LLAMA_SPECIALS, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )
    rendered = llama.chat([USER])
    assert "\nToday Date: 26 Jul 2024\n" in rendered
    assert datetime.datetime.now().strftime("%d %b %Y") not in rendered
    assert rendered.startswith("<|begin_of_text|><|start_header_id|>system")


def test_special_tokens_of_rendered_prompt_are_single_tokens(minimind):
    tokens = minimind.encode(minimind.chat([USER]))
    assert tokens[0] == tokens[-6] == 1 or tokens.count(1) == 2
    assert tokens.count(2) == 1
    assert "<|im_end|>" not in minimind.decode(tokens)


# Files that cannot be read.


def test_path_is_neither_directory_nor_repository():
    with pytest.raises(UserError, match=r"'/no/such/place' is neither a directory nor"):
        PretrainedTokenizer("/no/such/place").encode("a")


def test_directory_without_tokenizer(tmp_path):
    with pytest.raises(UserError, match="the tokenizer cannot be read"):
        PretrainedTokenizer(str(tmp_path)).encode("a")


def test_truncated_tokenizer_file(made):
    tokenizer = made(**CHATML_ENDS)
    with open(f"{tokenizer.path}/tokenizer.json", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match="the tokenizer cannot be read") as error:
        tokenizer.encode("a")
    assert "\n" not in str(error.value)


def test_missing_stop_token(made):
    with pytest.raises(UserError, match="defines a stop token"):
        made(specials=("<|endoftext|>",)).encode("a")


def test_stop_token_outside_the_vocabulary(made):
    with pytest.raises(UserError, match="stop token 99999 is not in its vocabulary of 266"):
        made(**CHATML_ENDS, generation={"eos_token_id": 99999}).encode("a")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('roles must alternate') }}", "failed: roles must alternate"),
        ("{% if %}", "failed: "),
        ("{{ ''.__class__.__mro__ }}", "failed: .*unsafe"),
    ],
)
def test_template_errors(made, template, message):
    with pytest.raises(UserError, match=message):
        made(template, **CHATML_ENDS).chat([USER])


# Recording, pickling and imports.


def test_is_recorded_and_pickled_as_its_path(minimind):
    minimind.encode("loaded")
    assert len(pickle.dumps(minimind)) < 300
    assert pickle.loads(pickle.dumps(minimind)) == minimind
    recorded = config_to_json(minimind)
    assert recorded == {"path": minimind.path}
    assert from_json(PretrainedTokenizer, recorded, key="tokenizer") == minimind


def test_needs_no_torch_and_prints_nothing(minimind):
    code = f"""
import sys
sys.modules["torch"] = None  # importing it fails
import dvaojax.data.tokenizers
assert "transformers" not in sys.modules
tokenizer = dvaojax.data.tokenizers.PretrainedTokenizer({minimind.path!r})
assert tokenizer.decode(tokenizer.encode("Hello world!")) == "Hello world!"
print(tokenizer.chat([{{"role": "user", "content": "hi"}}])[:12])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "<|im_start|>\n", "")


def test_missing_transformers_names_the_extra():
    code = """
import sys
sys.modules["transformers"] = None
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
try:
    PretrainedTokenizer("/").encode("a")
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == "transformers is not installed: pip install '.[hf]' in the checkout of dvaojax\n"
    )
