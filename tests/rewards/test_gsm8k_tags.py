"""GDPO's three rewards for GSM8K, published and recommended."""

import json
import re

import pytest
from hostile_texts import completion
from hypothesis import given
from hypothesis import strategies as st
from shared_data import shared

from dvaojax.rewards.mathematics.gsm8k import (
    tagged_correct,
    tagged_correct_gdpo,
    tagged_format,
    tagged_format_gdpo,
    tagged_integer,
    tagged_integer_gdpo,
)

PUBLISHED = (tagged_correct_gdpo, tagged_integer_gdpo, tagged_format_gdpo)
RECOMMENDED = (tagged_correct, tagged_integer, tagged_format)


def written(answer):
    return completion(f"<think>t</think>\n<answer>{answer}</answer>")


def rewards(functions, answer, gold):
    return tuple(function(answer, gold) for function in functions)


def test_published_cases():
    rows = shared("edge_cases", "gdpo_gsm8k.jsonl").read_text().splitlines()
    for row in map(json.loads, rows):
        paid = rewards(PUBLISHED, completion(row["response"]), row["gold"])
        assert paid == (row["correct"], row["integer"], row["format"]), row["note"]


@pytest.fixture(scope="module")
def golds():
    rows = [
        json.loads(line)
        for split in ("train", "test")
        for line in shared("gsm8k", f"{split}.jsonl").read_text().splitlines()
    ]
    return [row["answer"].partition("####")[2].strip() for row in rows]


def test_published_rewards_conflict_if_the_gold_is_not_only_digits(golds):
    conflicts = [gold for gold in golds if rewards(PUBLISHED, written(gold), gold)[1] == 0.0]
    assert sum("," in gold for gold in conflicts) == 79 + 14
    assert sum(gold.startswith("-") for gold in conflicts) == 3 + 2
    assert all("," in gold or "-" in gold for gold in conflicts)
    for gold in conflicts:
        digits = re.sub(r"\D", "", gold)
        assert rewards(PUBLISHED, written(gold), gold) == (1.0, 0.0, 1.0)
        assert rewards(PUBLISHED, written(digits), gold) == (0.0, 1.0, 1.0)


def test_every_gold_gets_all_recommended_rewards(golds):
    for gold in golds:
        assert rewards(RECOMMENDED, written(gold), gold) == (1.0, 1.0, 1.0)
        assert tagged_correct(written(gold.replace(",", "")), gold) == 1.0


@pytest.mark.parametrize("answer", ["²", "\N{FULLWIDTH DIGIT THREE}", "٣", "18.0", "", "1,08", "x"])
def test_non_integers_are_wrong(answer):
    assert rewards(RECOMMENDED, written(answer), "3")[:2] == (0.0, 0.0)


@given(st.integers(), st.integers())
def test_integers_of_any_size_are_compared_by_value(a, b):
    assert tagged_correct(written(f"{a:,}"), str(b)) == float(a == b)
    assert tagged_correct(written(f"{a:+}"), f"{a:,}") == 1.0


PIECES = ("<think>", "</think>", "<answer>", "</answer>", "\n", " ", "7")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(st.one_of(TEXTS, TEXTS.map(lambda text: f"<think></think>\n<answer>{text}</answer>")))
def test_published_format_equals_its_regular_expression(text):
    matched = re.search(r"^<think>.*?</think>\n<answer>.*?</answer>$", text, re.DOTALL)
    once = text.count("<answer>") == text.count("</answer>") == 1
    assert tagged_format_gdpo(completion(text), "7") == float(matched is not None and once)


@pytest.mark.parametrize("reward", [tagged_format, tagged_format_gdpo])
def test_opening_tag_in_the_prompt_counts(reward):
    rest = completion("t</think>\n<answer>7</answer>")
    assert reward(rest, "7") == 0.0
    assert reward(rest, "7", opened="<think>") == 1.0


@pytest.mark.parametrize("reward", [*PUBLISHED, *RECOMMENDED])
@pytest.mark.parametrize(
    "text",
    ["", "\ud800", "\x00", "a" * 100_000, "<answer>" * 12_000, "</answer>" * 11_000, "{" * 10_000],
)
def test_hostile_text_gets_no_reward(reward, text):
    assert reward(completion(text), "7") == 0.0
