"""Completions graded by a judge on a real server, including failures."""

import numpy as np
import pytest
from hostile_texts import TEXTS, completion
from judge_server import TOKENS_IN, Act, JudgeServer, asked, grade, honest, say

from dvaojax.rewards import RewardError, RewardSuite
from dvaojax.rewards.combined import CombinedScorer
from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.rubric import (
    Rubric,
    RubricItem,
    RubricScorer,
    healthbench_score,
    overall,
    single_items,
    tagged,
)
from dvaojax.types import Prompt

GOOD, BAD = ("axis:good",), ("axis:bad",)
RUBRICS = [
    Rubric(
        (("user", "Greet."),),
        (
            RubricItem("says hello", 6.0, GOOD),
            RubricItem("says world", 2.0, GOOD),
            RubricItem("says damn", -4.0, BAD),
        ),
    ),
    Rubric((("user", "Part."),), (RubricItem("says bye", 3.0, GOOD),)),
]
PROMPTS = [Prompt(f"prompt {i}", rubric, i) for i, rubric in enumerate(RUBRICS)]
OBJECTIVES = {
    "score": overall(),
    "reference": overall(formula=healthbench_score),
    "good": tagged("axis:good"),
    "bad": tagged("axis:bad"),
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def scorer(server, objectives=OBJECTIVES, **settings):
    quick = {"first_wait_seconds": 0.01, "timeout_seconds": 5.0, "batch_seconds": 30.0}
    return RubricScorer(objectives, Judge(JudgeConfig(url=server.url, **{**quick, **settings})))


def groups(*texts):
    """Groups of completions."""
    return [[completion(text) for text in group] for group in texts]


def test_scores_every_objective_of_every_completion():
    completions = groups(["hello world", "damn hello", "damn"], ["bye", "hello", "<think>bye"])
    with JudgeServer(lambda n, r: honest(r)) as server:
        scores = scorer(server).score(completions, PROMPTS)
    expected = [
        [[1, 1, 1, 1], [0.25, 0.25, 0.75, 0], [0, -0.5, 0, 0]],
        [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]],
    ]
    np.testing.assert_allclose(scores.rewards, expected)
    assert scores.rewards.dtype == np.float32
    assert scores.mask[0].all()
    np.testing.assert_array_equal(scores.mask[1], [[True, True, True, False]] * 3)
    assert scores.failures == dict.fromkeys(OBJECTIVES, 0)
    assert not scores.messages
    assert scores.measures["judge/questions"] == scores.measures["judge/calls"] == 12
    assert scores.measures["judge/tokens_in"] == 12 * TOKENS_IN
    assert scores.measures["judge/seconds_per_call"] > 0


def test_thought_is_not_sent_to_the_judge():
    with JudgeServer(lambda n, r: honest(r)) as server:
        scores = scorer(server).score(groups(["<think>hello</think>world"]), PROMPTS[:1])
    assert {asked(request)[0] for request in server.requests} == {"world"}
    assert scores.rewards[0, 0, 0] == 0.25


def test_only_items_of_an_objective_are_graded():
    with JudgeServer(lambda n, r: honest(r)) as server:
        scores = scorer(server, {"first": single_items(1)["item_1"]}).score(
            groups(["hello"]), PROMPTS[:1]
        )
    assert [asked(request)[1] for request in server.requests] == ["says hello"]
    assert scores.rewards.tolist() == [[[1.0]]]


def test_ungraded_item_masks_the_objectives_that_use_it():
    def act(number, request):
        answer, criterion = asked(request)
        return Act(status=500) if (answer, criterion) == ("hello", "says damn") else honest(request)

    with JudgeServer(act) as server:
        scores = scorer(server, attempts=2).score(groups(["hello", "world"]), PROMPTS[:1])
    np.testing.assert_array_equal(
        scores.mask[0], [[False, False, True, False], [True, True, True, True]]
    )
    assert not scores.rewards[~scores.mask].any()
    assert scores.failures == {"score": 1, "reference": 1, "good": 0, "bad": 1}
    assert scores.messages == ["judge: 1 of 6 questions failed: HTTP 500 (1)"]
    assert scores.measures["judge/failed"] == 1


def test_invalid_grades_are_failures():
    for nonsense in (grade("true"), grade(None), say("met"), say("{}"), say('{"criteria_met": 1}')):
        with JudgeServer(lambda n, r, nonsense=nonsense: nonsense) as server:
            scores = scorer(server, attempts=2).score(groups(["hello", "x"]), PROMPTS[:1])
        assert not scores.mask.any()
        assert scores.failures["score"] == 2


BLANK = ("", " \n\t", "\x00\x01", "\ud800", "\u200b", "hello</think>", "hello</think>\n \u2060")


@pytest.mark.parametrize("text", BLANK)
def test_blank_completion_gets_zero_without_the_judge(text):
    with JudgeServer(lambda n, r: grade(False)) as server:
        scores = scorer(server).score(groups([text]), PROMPTS[:1])
    assert server.requests == []
    assert scores.mask.all()
    assert not scores.rewards.any()


def test_hostile_text_is_graded():
    with JudgeServer(lambda n, r: honest(r)) as server:
        scores = scorer(server).score(groups(list(TEXTS.values())), PROMPTS[:1])
    assert scores.mask.all()
    assert not scores.rewards[..., [0, 2]].any()


def test_consecutive_failed_batches_raise():
    with JudgeServer(lambda n, r: Act(status=503)) as server:
        asking = scorer(server, attempts=1, max_failed_batches=3)
        for _ in range(2):
            assert not asking.score(groups(["hello"]), PROMPTS[:1]).mask.any()
        with pytest.raises(RewardError, match="none of 3 questions, in 3 batches in a row") as stop:
            asking.score(groups(["hello"]), PROMPTS[:1])
    assert "HTTP 503 (3)" in str(stop.value)
    assert "\n" not in str(stop.value)


def test_one_answer_resets_the_count_of_failed_batches():
    def act(number, request):
        return grade(True) if number == 4 else Act(status=503)

    with JudgeServer(act) as server:
        asking = scorer(server, attempts=1, max_failed_batches=2)
        for _ in range(3):
            asking.score(groups(["hello"]), PROMPTS[:1])
        with pytest.raises(RewardError):
            asking.score(groups(["hello"]), PROMPTS[:1])


def test_batch_without_questions_is_not_a_failed_batch():
    with JudgeServer(lambda n, r: Act(status=503)) as server:
        asking = scorer(server, attempts=1, max_failed_batches=1)
        assert asking.score(groups([""]), PROMPTS[:1]).mask.all()


def test_combined_scorer_concatenates_columns():
    suite = RewardSuite({"length": lambda answer, reference: float(len(answer.text))})
    with (
        JudgeServer(lambda n, r: honest(r)) as server,
        CombinedScorer([suite, scorer(server)]) as both,
    ):
        scores = both.score(groups(["hello", "damn"]), PROMPTS[:1])
    assert both.objectives == ("length", *OBJECTIVES)
    np.testing.assert_allclose(scores.rewards[0], [[5, 0.75, 0.75, 0.75, 1], [4, 0, -0.5, 0, 0]])
    assert scores.failures == dict.fromkeys(both.objectives, 0)
    assert scores.measures["judge/questions"] == 6


def test_combined_scorer_rejects_duplicate_or_no_objectives():
    suite = RewardSuite({"length": lambda answer, reference: 0.0})
    with pytest.raises(ValueError, match="two scorers have an objective called 'length'"):
        CombinedScorer([suite, suite])
    with pytest.raises(ValueError, match="at least one objective"):
        CombinedScorer([])
