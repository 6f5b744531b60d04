"""Sets of answers to one sum: how completions are split, and the rewards of each answer."""

import pickle
import random

import numpy as np
import pytest

from dvaojax.rewards import RewardSuite
from dvaojax.rewards.answer_sets import split_answers
from dvaojax.tasks.arithmetic_sets import ArithmeticSets
from dvaojax.types import Completion, Prompt, TaskWithAnswers, TaskWithAnswerSets

TASK = ArithmeticSets()
PROBLEM = Prompt("47+86=", "133", 0)
GOOD, LONG = "7+6=13;4+8+1=13;[133]", "47+86=;7+6=13;4+8+1=13;[133]"
PERFECT = ArithmeticSets(slip=0.0, careful_slip=0.0, too_long=0.0, misformatted=0.0)


def completion(text, *, stopped=True):
    return Completion(text, tuple(TASK.tokenizer.encode(text) + [1] * stopped), stopped)


def rewards(text, prompt=PROBLEM, *, stopped=True, task=TASK):
    """Rewards `[m][2]` of one completion; None for a missing answer."""
    scores = RewardSuite(task.objectives).score([[completion(text, stopped=stopped)]], [prompt])
    both = np.where(scores.mask, scores.rewards, np.nan)[0, 0].reshape(task.num_answers, 2)
    return [None if np.isnan(row).all() else tuple(row.tolist()) for row in both]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, [(1, 1), None, None]),
        (f"{GOOD}|{LONG}|[134]", [(1, 1), (1, 0), (0, 1)]),
        (f"[133|{GOOD}?|{GOOD}", [(0, 0), (0, 0), (1, 1)]),
        (f"||{GOOD}", [(0, 0), (0, 0), (1, 1)]),
        ("", [(0, 0), None, None]),
        (f"{GOOD}|", [(1, 1), (0, 0), None]),
        (f"[1]|[2]|[3]|{GOOD}", [(0, 1), (0, 1), (0, 1)]),
    ],
)
def test_each_answer_is_scored_separately(text, expected):
    assert rewards(text) == expected


def test_only_the_last_answer_can_be_cut_off():
    assert rewards(f"{GOOD}|{GOOD}", stopped=False) == [(1, 1), (0, 0), None]


def test_tokens_of_an_answer():
    """Padding inside a completion is a token without text; separators and stop are dropped."""
    separator = TASK.tokenizer.encode("|")[0]
    tokens = (2, 0, 3, separator, separator, 4, 1)
    answers = split_answers(
        Completion("01||2", tokens, True), separator=separator, decode=TASK.tokenizer.decode
    )
    assert [(a.text, a.token_ids, a.stopped) for a in answers] == [
        ("01", (2, 0, 3), True),
        ("", (), True),
        ("2", (4,), True),
    ]


def test_budget_fits_the_longest_sum_of_two_digits():
    lengths = [
        len(
            PERFECT.demonstration(Prompt(f"{a}+{b}=", str(a + b), 0), random.Random(0)).split("|")[
                0
            ]
        )
        for a in range(10, 100)
        for b in range(10, 100)
    ]
    assert max(lengths) == TASK.budget


def test_flawless_and_usual_demonstrations():
    for prompt in TASK.prompts("test")[:20]:
        text = PERFECT.demonstration(prompt, random.Random(0))
        assert rewards(text, prompt) == [(1, 1)] * 3
    generator = random.Random(0)
    scored = [
        rewards(TASK.demonstration(prompt, generator), prompt)
        for prompt in TASK.prompts("train")[:200]
    ]
    assert {None} & {answer for row in scored for answer in row} == set()
    assert {(1, 1), (1, 0), (0, 1), (0, 0)} <= {answer for row in scored for answer in row}
    assert any(len(set(row)) > 1 for row in scored)


def test_objectives_are_ordered_by_answer():
    assert list(TASK.objectives) == [
        f"{name}/{i}" for i in (1, 2, 3) for name in ("accuracy", "brevity")
    ]
    assert isinstance(TASK, TaskWithAnswerSets)
    assert isinstance(TASK, TaskWithAnswers)
    assert TASK.answer(completion(f"[0133]|{LONG}")) == "133"
    assert TASK.answer(completion("|[1]")) is None
    pickle.dumps(TASK.objectives)
    with pytest.raises(ValueError, match=r"task.num_answers=0 must be at least 1"):
        ArithmeticSets(num_answers=0)
