"""Reports against hand-computed values, and coverage of the intervals."""

import numpy as np
import pytest

from dvaojax.evaluation.estimators import pass_at_k
from dvaojax.evaluation.held_out import AnsweredProblem, Evaluation
from dvaojax.evaluation.measures import MeasureSettings, measures, report, report_by_category
from dvaojax.types import Completion, Prompt

NAN = float("nan")


def answered(index, texts, rewards, *, category="", stopped=True):
    """A problem with these completions; `rewards` has one row per completion."""
    completions = [Completion(text, tuple(range(len(text) + 1)), stopped) for text in texts]
    prompt = Prompt(f"problem {index}", None, index, category)
    return AnsweredProblem(prompt, completions, np.array(rewards, np.float32))


def vote(completion):
    """The text; an empty text is no answer."""
    return completion.text or None


EVALUATION = Evaluation(
    ("right", "style"),
    [
        # Two of four are right; three have an answer, two of them the right one.
        answered(0, ["4", "4", "5", ""], [[1, 0.7], [1, 0.2], [0, NAN], [0, 0.7]], category="easy"),
        # Never right; two completions are not scored.
        answered(1, ["6", "7", "7", "6"], [[0, 0], [NAN, 0], [NAN, 0], [0, 0]], category="hard"),
        # Not scored on the first objective.
        answered(2, ["1"] * 4, [[NAN, 1]] * 4, category="hard", stopped=False),
    ],
)
SETTINGS = MeasureSettings(ks=(1, 2, 4), pass_threshold=0.7, votes={"right": vote})


def means(result, objective):
    return {name: i and i.mean for name, i in result.objectives[objective].items()}


def test_measures_are_means_over_problems_that_define_them():
    result = report(EVALUATION, SETTINGS)
    assert result.num_problems == 3
    assert means(result, "right") == pytest.approx(
        {
            "avg@4": (2 / 4 + 0) / 2,
            "pass@1": (2 / 4 + 0) / 2,
            "pass@2": (5 / 6 + 0) / 2,
            "pass@4": 1.0,  # only the first problem has four scored completions
            "maj@4": (1 + 0) / 2,
        }
    )
    assert result.not_scored == {"right": 6, "style": 1}
    assert result.length.mean == pytest.approx((7 / 4 + 2 + 2) / 3)
    assert result.cut_off.mean == pytest.approx(1 / 3)


def test_reward_equal_to_threshold_passes_in_float32():
    assert float(np.float32(0.7)) < 0.7
    result = report(EVALUATION, SETTINGS)
    # Two of the three scored completions of the first problem have 0.7, none of the second, all of
    # the third.
    assert means(result, "style")["pass@1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    strict = report(EVALUATION, MeasureSettings(ks=(1,), pass_threshold=0.71))
    assert means(strict, "style")["pass@1"] == pytest.approx((0 + 0 + 1) / 3)


def test_only_scored_completions_vote():
    rewards = np.array([1, NAN, NAN], np.float32)
    assert measures(rewards, ["4", "5", "5"], SETTINGS)["maj@3"] == 1.0


def test_no_majority_without_votes():
    assert list(report(EVALUATION, MeasureSettings(ks=(2,))).objectives["right"]) == [
        "avg@4",
        "pass@2",
    ]
    assert "maj@4" not in report(EVALUATION, SETTINGS).objectives["style"]


def test_categories_are_reported_separately_in_order():
    result = report_by_category(EVALUATION, SETTINGS)
    assert list(result) == ["easy", "hard"]
    for category, one in result.items():
        problems = [p for p in EVALUATION.problems if p.prompt.category == category]
        assert one == report(Evaluation(EVALUATION.names, problems), SETTINGS)
    assert means(result["hard"], "right")["avg@4"] == 0.0
    plain = Evaluation(("right",), [answered(0, ["4"], [[1]])])
    assert report_by_category(plain, SETTINGS) == {}


def test_undefined_measures_are_null():
    plain = Evaluation(("right",), [answered(0, ["4"], [[NAN]])])
    result = report(plain, MeasureSettings(votes={"right": vote})).to_json()
    assert result["objectives"] == {"right": {"avg@1": None, "pass@1": None, "maj@1": None}}
    assert result["not_scored"] == {"right": 1}


def test_coverage_of_pass_at_k_intervals():
    """Problems of random difficulty with random completions: the interval is over problems."""
    rng = np.random.default_rng(0)
    ease = rng.beta(0.5, 1.0, size=200_000)
    truth = 1.0 - np.mean((1.0 - ease) ** 4)
    covered = 0
    for _ in range(100):
        rewards = (rng.random((80, 8)) < rng.choice(ease, 80)[:, None]).astype(np.float32)
        problems = [answered(i, ["x"] * 8, r[:, None]) for i, r in enumerate(rewards)]
        result = report(Evaluation(("right",), problems), MeasureSettings(ks=(4,)))
        interval = result.objectives["right"]["pass@4"]
        assert interval is not None
        expected = np.mean([pass_at_k(8, int(r.sum()), k=4) for r in rewards])
        assert interval.mean == pytest.approx(expected)
        covered += interval.low <= truth <= interval.high
    # 95 of 100, three standard deviations.
    assert 87 <= covered <= 100
