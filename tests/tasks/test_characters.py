"""The tokenizer of single characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.errors import UserError
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Tokenizer

TOKENIZER = Arithmetic().tokenizer


@given(st.text(alphabet=TOKENIZER.alphabet))
def test_text_round_trips(text):
    tokens = TOKENIZER.encode(text)
    assert TOKENIZER.decode(tokens) == text
    assert len(tokens) == len(text)
    assert all(2 <= token < TOKENIZER.vocab_size for token in tokens)


def test_tokens_are_unique():
    assert TOKENIZER.vocab_size == 18
    assert len({*TOKENIZER.encode(TOKENIZER.alphabet), 0, *TOKENIZER.stop_tokens}) == 18


def test_padding_and_stop_tokens_have_no_text():
    assert TOKENIZER.decode([0, *TOKENIZER.encode("1+"), 1, 0]) == "1+"


def test_token_outside_the_alphabet_becomes_a_replacement_character():
    """A model's vocabulary may be padded for sharding, and a policy may sample any token of it."""
    text = TOKENIZER.decode([*TOKENIZER.encode("[1"), 18, 31, *TOKENIZER.encode("]")])
    assert text == "[1\ufffd\ufffd]"


def test_rejects_character_outside_the_alphabet():
    with pytest.raises(
        UserError, match="'12x' contains 'x', which is not in the alphabet"
    ) as error:
        TOKENIZER.encode("12x")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="contains '😀'"):
        TOKENIZER.encode("1" * 1000 + "😀")


def test_rejects_duplicate_characters():
    with pytest.raises(ValueError, match="twice"):
        CharacterTokenizer("abca")


def test_implements_the_tokenizer_protocol():
    tokenizer: Tokenizer = TOKENIZER
    assert tokenizer.pad_token not in tokenizer.stop_tokens
