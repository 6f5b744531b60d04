"""Rewards of rubrics and of judges: verdicts on known preferences, and the layout of an answer."""

import numpy as np
import pytest
from comparing_judge import compared, verdict
from hostile_texts import TEXTS, completion
from judge_server import Act, JudgeServer

from dvaojax.rewards import RewardError
from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.preferences import (
    Preference,
    ResponsePair,
    RubricAccuracyScorer,
    addresses_every_criterion,
    criteria,
    read_rubric_text,
    right_verdict,
    rubric_question,
)
from dvaojax.types import Prompt

TALK = (("user", "Greet."),)
RUBRIC = "1. It is polite.\n2. It is short."
PREFERENCES = (
    Preference(ResponsePair(TALK, "hello", "damn", RUBRIC), "A"),
    Preference(ResponsePair(TALK, "go away", "good day", RUBRIC), "B"),
)
PROMPTS = [Prompt(f"prompt {i}", preference, i) for i, preference in enumerate(PREFERENCES)]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def scorer(server, **settings):
    quick = {"first_wait_seconds": 0.01, "timeout_seconds": 5.0, "batch_seconds": 30.0}
    return RubricAccuracyScorer(Judge(JudgeConfig(url=server.url, **{**quick, **settings})))


def score(act, *groups, **settings):
    """Scores of groups of texts by a server, and the server."""
    with JudgeServer(act) as server:
        completions = [[completion(text) for text in group] for group in groups]
        return scorer(server, **settings).score(completions, PROMPTS[: len(groups)]), server


def follows(request):
    """A judge that prefers the polite response if the rubric asks for it, else response A."""
    first, _, _ = compared(request)
    polite = "A" if first in ("hello", "good day") else "B"
    return verdict(polite if "polite" in request["messages"][0]["content"] else "A")


def test_rubric_gets_one_if_the_judge_then_finds_the_preference():
    rubrics = ["1. It is polite.", "1. It is long.", "<think>polite</think>1. Is it polite?"]
    scores, server = score(lambda n, r: follows(r), rubrics, rubrics)
    assert scores.rewards[..., 0].tolist() == [[1, 1, 1], [1, 0, 1]]
    assert scores.rewards.dtype == np.float32
    assert scores.mask.all()
    assert scores.failures == {"accuracy": 0}
    assert len(server.requests) == scores.measures["judge/questions"] == 6
    assert scores.measures["judge/without_rubric"] == 0
    questions = [request["messages"][0]["content"] for request in server.requests]
    assert not any(RUBRIC in question or "think" in question for question in questions)


def test_text_without_a_criterion_is_no_rubric_and_not_sent():
    texts = ["", " ", "Prefer A.", "2. It is polite.", "1.", "<think>1. It is polite.", "1) Fine"]
    scores, server = score(lambda n, r: verdict("A"), texts)
    assert scores.mask.all()
    assert scores.rewards.ravel().tolist() == [0] * 6 + [1]
    assert len(server.requests) == 1
    assert scores.measures["judge/without_rubric"] == 6


def test_failed_questions_mask_the_reward():
    def act(number, request):
        is_long = "long" in request["messages"][0]["content"]
        return Act(status=500) if is_long else verdict("B") if number else verdict("neither")

    scores, _ = score(act, ["1. It is long.", "1. It is polite."], attempts=2)
    assert scores.mask.ravel().tolist() == [False, True]
    assert not scores.rewards.any()
    assert scores.failures == {"accuracy": 1}
    assert scores.messages == ["judge: 1 of 2 questions failed: HTTP 500 (1)"]


def test_a_judge_that_is_gone_stops_the_run():
    with JudgeServer(lambda n, r: Act(status=503)) as server:
        asking = scorer(server, attempts=1, max_failed_batches=1)
        assert asking.score([[completion("")]], PROMPTS[:1]).mask.all()
        with pytest.raises(RewardError, match="answered none of 1 questions"):
            asking.score([[completion("1. x")]], PROMPTS[:1])


def test_hostile_rubrics_are_scored():
    numbered = [f"1. {text}" for text in TEXTS.values()]
    scores, _ = score(lambda n, r: verdict("A"), [*TEXTS.values(), *numbered])
    assert scores.mask.all()


RUBRICS = {
    "1. a\n2. b": ["a", "b"],
    "Criteria:\n 1) a\n   more\n**2.** b\n": ["a", "b"],
    "1. a\n1. b\n3. c\n2. d": ["a", "d"],
    "1.a\n- b\n0. c": [],
    "1. \n2. b": [],
    "x 1. a": [],
    "\n".join(f"{n}. c{n}" for n in range(1, 121)): [f"c{n}" for n in range(1, 121)],
    "": [],
    "1" * 100_000: [],
}


def test_criteria_are_the_lines_numbered_in_sequence():
    assert {text: criteria(text) for text in RUBRICS} == RUBRICS


def test_rubric_is_read_after_the_thoughts():
    assert read_rubric_text("<think>1. no</think>\n1. yes\n") == "1. yes"
    assert read_rubric_text("<think>1. no") is None
    assert read_rubric_text("no list") is None


def test_the_writer_is_shown_the_conversation_and_no_response():
    (message,) = rubric_question((("user", 'a "quoted" word\ud800'),))
    assert '"content": "a \\"quoted\\" word\N{REPLACEMENT CHARACTER}"' in message["content"]


def test_right_verdict():
    for preference, right, wrong in zip(PREFERENCES, "AB", "BA", strict=True):
        assert right_verdict(completion(f"So.\nVerdict: {right}"), preference) == 1.0
        assert right_verdict(completion(f"So.\nVerdict: {wrong}"), preference) == 0.0
        assert right_verdict(completion(f"Verdict: {right}\nor so"), preference) == 0.0
        assert right_verdict(completion(""), preference) == 0.0


WHOLE = "Criterion 1: A is.\nCriterion 2: B is\nshorter.\nJustification: politeness.\nVerdict: B"
LAYOUTS = {
    WHOLE: 1.0,
    f"<think>Criterion 9: hm\nVerdict: A</think>\n\n{WHOLE}\n": 1.0,
    WHOLE.replace("Criterion 1:", "**Criterion 1:**").replace("Verdict: B", "**Verdict: B**"): 1.0,
    WHOLE.replace("B", "A"): 1.0,  # the layout says nothing about the verdict
    f"So: {WHOLE}": 0.0,
    f"First.\n{WHOLE}": 0.0,
    WHOLE.replace("Criterion 2: B is\nshorter.\n", ""): 0.0,
    WHOLE.replace("Criterion 2", "Criterion 3"): 0.0,
    WHOLE.replace("Criterion 1: A is.", "Criterion 1: ."): 0.0,
    WHOLE.replace("Criterion 1: A is.", "Criterion 1:"): 0.0,
    WHOLE.replace("Justification: politeness.\n", ""): 0.0,
    WHOLE.replace("politeness.", "..."): 0.0,
    WHOLE.replace("Justification", "Criterion 3: more.\nJustification"): 0.0,
    WHOLE.replace("Justification", "Criterion 2: again.\nJustification"): 0.0,
    f"{WHOLE}\nVerdict: B": 0.0,
    f"{WHOLE}\nThat is all.": 0.0,
    WHOLE.replace("Verdict: B", "Verdict: C"): 0.0,
    WHOLE.replace("Verdict: B", ""): 0.0,
    "Verdict: B": 0.0,
    "": 0.0,
}


def test_layout_addresses_each_criterion_once_and_in_order():
    rewards = {t: addresses_every_criterion(completion(t), PREFERENCES[0]) for t in LAYOUTS}
    assert rewards == LAYOUTS
    for text in TEXTS.values():
        assert addresses_every_criterion(completion(text), PREFERENCES[0]) == 0.0


def test_layout_without_a_rubric_is_justification_and_verdict():
    bare = Preference(ResponsePair(TALK, "a", "b"), "A")
    assert addresses_every_criterion(completion("Justification: so.\nVerdict: A"), bare) == 1.0
    assert addresses_every_criterion(completion(WHOLE), bare) == 0.0
