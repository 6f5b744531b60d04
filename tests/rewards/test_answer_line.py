"""DAPO's answer line reward, published and lenient."""

import json
import time

import pytest
from hostile_texts import completion
from hypothesis import given
from hypothesis import strategies as st
from shared_data import shared

from dvaojax.rewards.mathematics import answer_line_dapo, answer_line_lenient
from dvaojax.rewards.mathematics.answer_line import dapo_answer


def edge_cases():
    lines = shared("edge_cases", "dapo_answer_line.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_published_cases():
    for row in edge_cases():
        assert dapo_answer(row["response"]) == row["pred"], row["note"]
        assert answer_line_dapo(completion(row["response"]), row["gold"]) == row["score"]


def test_lenient_reward_compares_the_last_answer_by_value():
    for row in edge_cases():
        right = row["note"] not in ("last label wins", "no arithmetic")
        reward = answer_line_lenient(completion(row["response"]), row["gold"])
        assert reward == (1.0 if right else -1.0), row["note"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"Answer: $\frac12$", r"\frac{1}{2}"),
        (r"Answer: \sqrt2", r"\sqrt{2}"),
        (r"Answer: \boxed{34}", "34"),
        (r"Answer: 90^\circ", "90"),
        (r"Answer: 5 \text{cm}", "5"),
        ("Answer: an egg", "egg"),
        ("ANSWER : $12$ and $34$", "12"),
        ("Answer: 34" + " " * 300, "[INVALID]"),
        ("Answer:\n34", "34"),
    ],
)
def test_normal_form_of_verl(text, answer):
    assert dapo_answer(text) == answer


@given(st.integers(-(10**30), 10**30))
def test_integers_match_only_themselves(number):
    for reward in (answer_line_dapo, answer_line_lenient):
        assert reward(completion(f"thus\nAnswer: ${number}$"), str(number)) == 1.0
        assert reward(completion(f"thus\nAnswer: ${number + 1}$"), str(number)) == -1.0


def test_answer_line_in_thoughts_is_ignored():
    text = "<think>Answer: 34</think> I do not know."
    assert answer_line_lenient(completion(text), "34") == -1.0
    assert answer_line_dapo(completion(text), "34</think>Idonotknow.") == 1.0


@pytest.mark.parametrize("reward", [answer_line_dapo, answer_line_lenient])
@pytest.mark.parametrize(
    "text",
    [
        *("", "\ud800", "\x00", "a" * 100_000, "answer:" * 15_000, "answer" + "*" * 100_000),
        *("Answer: " + "$" * 100_000, "Answer: " + "{" * 10_000, "Answer: 9^{9^{9^9}}"),
    ],
)
def test_hostile_text_gets_no_reward(reward, text):
    began = time.process_time()
    assert reward(completion(text), "34") == -1.0
    assert time.process_time() - began < 1.0
