"""Conversion between texts and arrays: no truncation, no re-encoding."""

import numpy as np
import pytest

from dvaojax.data.text import decode_completions, encode_prompts, pad_tokens
from dvaojax.errors import UserError
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt, Rollout

TOKENIZER = CharacterTokenizer("abc")


def prompts(*texts):
    return [Prompt(text, None, i) for i, text in enumerate(texts)]


def test_prompts_are_padded_on_the_right():
    tokens, lengths = encode_prompts(TOKENIZER, prompts("ab", "c", "abc"), width=4)
    assert tokens.tolist() == [[2, 3, 0, 0], [4, 0, 0, 0], [2, 3, 4, 0]]
    assert lengths.tolist() == [2, 1, 3]
    assert (tokens.dtype, lengths.dtype) == (np.int32, np.int32)


@pytest.mark.parametrize("text", ["abcabc", ""])
def test_refuses_empty_or_long_prompt_and_names_the_setting(text):
    with pytest.raises(UserError) as error:
        encode_prompts(TOKENIZER, prompts("a", text), width=5)
    message = str(error.value)
    assert f"{text!r} has {len(text)} tokens" in message
    assert "task.max_prompt_length=5" in message
    assert "\n" not in message


def test_error_truncates_long_text():
    with pytest.raises(UserError, match="has 300 tokens; max_new_tokens=8") as error:
        pad_tokens([[2] * 300], TOKENIZER, width=8, limit="max_new_tokens")
    assert len(str(error.value)) < 140


def test_completions_keep_sampled_tokens():
    """Trap 35: token ids are the sampler's, with one stop token."""
    tokens = np.array([[[2, 3, 1, 0], [4, 0, 2, 1]], [[1, 0, 0, 0], [2, 2, 2, 2]]], np.int32)
    lengths = np.array([[3, 4], [1, 4]])
    rollout = Rollout(
        tokens=tokens,
        mask=np.arange(4) < lengths[..., None],
        logprobs=np.zeros(tokens.shape, np.float32),
        stopped=np.array([[True, True], [True, False]]),
    )
    groups = decode_completions(TOKENIZER, rollout)
    assert [[c.text for c in group] for group in groups] == [["ab", "ca"], ["", "aaa" + "a"]]
    assert groups[0][1].token_ids == (4, 0, 2, 1), "padding that was sampled is a token"
    assert [[c.length for c in group] for group in groups] == [[3, 4], [1, 4]]
    assert [[c.stopped for c in group] for group in groups] == [[True, True], [True, False]]
    assert all(type(i) is int for group in groups for c in group for i in c.token_ids)


def test_names_a_prompt_with_an_unknown_character():
    with pytest.raises(UserError, match=r"^prompt 1: CharacterTokenizer cannot encode it: .*'é'"):
        encode_prompts(TOKENIZER, prompts("a", "bé"), width=5)
