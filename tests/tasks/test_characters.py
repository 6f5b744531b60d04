"""The tokenizer of single characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Tokenizer

TOKENIZER = Arithmetic().tokenizer


@given(st.text(alphabet=TOKENIZER.alphabet))
def test_a_text_comes_back(text):
    tokens = TOKENIZER.encode(text)
    assert TOKENIZER.decode(tokens) == text
    assert len(tokens) == len(text)
    assert all(2 <= token < TOKENIZER.vocab_size for token in tokens)


def test_every_token_has_one_meaning():
    assert TOKENIZER.vocab_size == 18
    assert len({*TOKENIZER.encode(TOKENIZER.alphabet), 0, *TOKENIZER.stop_tokens}) == 18


def test_padding_and_stop_tokens_have_no_text():
    assert TOKENIZER.decode([0, *TOKENIZER.encode("1+"), 1, 0]) == "1+"


def test_a_token_beyond_the_alphabet_is_seen_and_is_no_character_of_it():
    """A vocabulary may be larger, for a mesh to split it; the policy may sample all of it."""
    text = TOKENIZER.decode([*TOKENIZER.encode("[1"), 18, 31, *TOKENIZER.encode("]")])
    assert text == "[1\ufffd\ufffd]"


def test_a_character_outside_the_alphabet_is_refused():
    with pytest.raises(ValueError, match="'12x' contains 'x'"):
        TOKENIZER.encode("12x")


def test_an_alphabet_lists_each_character_once():
    with pytest.raises(ValueError, match="twice"):
        CharacterTokenizer("abca")


def test_it_is_a_tokenizer_to_the_type_checker():
    tokenizer: Tokenizer = TOKENIZER
    assert tokenizer.pad_token not in tokenizer.stop_tokens
