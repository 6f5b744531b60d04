"""Prompts that are too long are dropped and counted, or refused, and never truncated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.data.lengths import select
from dvaojax.errors import UserError
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt

TOKENIZER = CharacterTokenizer("ab")
TEXTS = st.lists(st.text("ab", min_size=1, max_size=9), min_size=1)


def prompts(texts):
    return [Prompt(text, text, 100 + i) for i, text in enumerate(texts)]


@given(TEXTS, st.integers(1, 9))
def test_keeps_fitting_prompts_in_order_and_counts_the_rest(texts, limit):
    given_prompts = prompts(texts)
    fitting = [p for p in given_prompts if len(p.text) <= limit]
    if not fitting:
        with pytest.raises(UserError, match=f"none of {len(texts)} prompts has at most {limit}"):
            select(given_prompts, TOKENIZER, limit=limit, on_long="drop")
        return
    selection = select(given_prompts, TOKENIZER, limit=limit, on_long="drop")
    assert list(selection.kept) == fitting
    assert selection.dropped == len(texts) - len(fitting)
    assert selection.longest == max(map(len, texts))


@given(TEXTS, st.integers(1, 9))
def test_refusal_names_first_long_prompt(texts, limit):
    given_prompts = prompts(texts)
    long = [i for i, text in enumerate(texts) if len(text) > limit]
    if not long:
        assert list(select(given_prompts, TOKENIZER, limit=limit, on_long="refuse").kept) == (
            given_prompts
        )
        return
    with pytest.raises(UserError) as error:
        select(given_prompts, TOKENIZER, limit=limit, on_long="refuse")
    first = long[0]
    assert f"prompt {100 + first} has {len(texts[first])} tokens" in str(error.value)
    assert f"{len(long)} of {len(texts)} prompts are too long" in str(error.value)


def test_selection_in_words():
    chosen = select(prompts(["a", "ab", "aba"]), TOKENIZER, limit=2, on_long="drop")
    assert chosen.in_words() == ("dropped 1 of 3 prompts longer than 2 tokens; the longest has 3")
    chosen = select(prompts(["a", "ab"]), TOKENIZER, limit=2, on_long="drop")
    assert chosen.in_words() == "all 2 prompts fit 2 tokens; the longest has 2"


def test_refuses_unknown_on_long():
    with pytest.raises(ValueError, match="on_long='cut' is neither"):
        select(prompts(["a"]), TOKENIZER, limit=2, on_long="cut")  # pyright: ignore
