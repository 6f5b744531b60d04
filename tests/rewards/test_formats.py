"""Format rewards, compared with the regular expressions of the published code."""

import re
import time

import pytest
from hostile_texts import completion
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.rewards.formats import (
    one_thought_then_answer,
    tag_count_open_r1,
    think_answer_format_open_r1,
    think_format_trl,
)

FORMATS = [
    one_thought_then_answer,
    tag_count_open_r1,
    think_answer_format_open_r1,
    think_format_trl,
]
PIECES = ("<think>", "</think>", "<answer>", "</answer>", "\n", " ", "x", "\n\n", "<think>\n")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(TEXTS)
def test_trl_format_equals_its_regular_expression(text):
    pattern = r"^<think>(?!.*<think>)(.*?)</think>.*$"
    matched = re.match(pattern, text, re.DOTALL | re.MULTILINE)
    assert think_format_trl(completion(text), None) == float(matched is not None)


@given(
    st.one_of(
        TEXTS,
        st.tuples(TEXTS, TEXTS, TEXTS).map(
            lambda inner: "<think>\n{}\n</think>\n<answer>\n{}\n</answer>{}".format(*inner)
        ),
    )
)
def test_open_r1_format_equals_its_regular_expression(text):
    pattern = r"^<think>\n.*?\n</think>\n<answer>\n.*?\n</answer>$"
    matched = re.match(pattern, text, re.DOTALL | re.MULTILINE)
    assert think_answer_format_open_r1(completion(text), None) == float(matched is not None)


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>t</think>a", 1.0),
        (" <think>\nt\n</think>\n\na\n", 1.0),
        ("<think></think>a", 1.0),
        ("<think>t</think>", 0.0),
        ("<think>t</think> \n", 0.0),
        ("<think>t</think>a</think>b", 0.0),
        ("<think>t<think>u</think>a", 0.0),
        ("a<think>t</think>b", 0.0),
        ("t</think>a", 0.0),
        ("<think>t", 0.0),
    ],
)
def test_one_thought_and_then_an_answer(text, reward):
    assert one_thought_then_answer(completion(text), None) == reward


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>\nt\n</think>\n<answer>\na\n</answer>", 1.0),
        ("<think>t\n</think>\n<answer>\na\n</answer>", 0.75),
        ("<think>\nt\n</think>\n<answer>\na\n</answer>\n</answer>", 0.75),
        ("a", 0.0),
    ],
)
def test_open_r1_tag_count_gives_a_quarter_per_tag(text, reward):
    assert tag_count_open_r1(completion(text), None) == reward


@pytest.mark.parametrize("reward", FORMATS)
def test_opening_tag_in_the_prompt_counts(reward):
    whole = "<think>\nt\n</think>\n<answer>\na\n</answer>"
    rest = completion(whole.removeprefix("<think>\n"))
    assert reward(completion(whole), None) == 1.0
    assert reward(rest, None) < 1.0
    assert reward(rest, None, opened="<think>\n") == 1.0


HOSTILE = [
    "",
    "\ud800",
    "\x00",
    "<" * 100_000,
    "\n" * 100_000,
    "<think>" * 15_000,
    "</think>" * 15_000,
    "<think>" + " " * 100_000,
]


@pytest.mark.parametrize("reward", FORMATS)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_gets_no_reward(reward, text):
    assert reward(completion(text), None) == 0.0


@pytest.mark.parametrize("reward", FORMATS)
def test_hostile_text_is_processed_quickly(reward):
    for text in (*HOSTILE, "<think>\n" + "\n</think>\n<answer>\n" * 5_000):
        began = time.process_time()
        reward(completion(text), None)
        assert time.process_time() - began < 1.0
