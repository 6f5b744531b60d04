"""best@k and diversity, against enumeration of subsets and small examples."""

import itertools

import numpy as np
import pytest

from dvaojax.evaluation.answer_sets import diversity, set_measures, set_report
from dvaojax.evaluation.estimators import best_at_k, pass_at_k
from dvaojax.evaluation.held_out import AnsweredProblem, Evaluation
from dvaojax.types import Completion, Prompt

NAMES = ("accuracy/1", "brevity/1", "accuracy/2", "brevity/2")
NAN = np.nan


def test_best_at_k_is_the_mean_of_the_best_over_all_subsets():
    rewards = np.array([0.5, -1.0, 2.0, 0.5, 0.25, 2.0])
    for k in range(1, 7):
        subsets = [max(some) for some in itertools.combinations(rewards.tolist(), k)]
        np.testing.assert_allclose(best_at_k(rewards, k=k), np.mean(subsets), rtol=1e-12)
    assert best_at_k(rewards, k=6) == 2.0
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"best@{k} is not defined for 6"):
            best_at_k(rewards, k=k)


def test_best_at_k_of_binary_rewards_is_pass_at_k():
    for passed in range(9):
        rewards = np.array([1.0] * passed + [0.0] * (8 - passed))
        for k in range(1, 9):
            expected = pass_at_k(8, passed, k=k)
            np.testing.assert_allclose(best_at_k(rewards, k=k), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([[1, 0], [0, 1]], 2**0.5),
        ([[1, 0], [1, 0]], 0.0),
        ([[0, 0], [3, 4], [3, 4]], 10 / 3),
        ([[1, 0], [NAN, NAN], [1, 1]], 1.0),
        ([[1, NAN], [0, 5]], 1.0),
        ([[1, 0], [NAN, NAN]], None),
    ],
)
def test_diversity_is_the_mean_distance_between_rewards(vectors, expected):
    value = diversity(np.array(vectors, np.float32))
    assert value == (None if expected is None else pytest.approx(expected))


SETS = np.array(
    [
        [[1, 0, 0, 1], [0, 1, NAN, NAN]],
        [[1, 1, 1, 1], [NAN, NAN, NAN, NAN]],  # the second completion was not scored
    ],
    np.float32,
)


def test_step_measures():
    assert set_measures(SETS, NAMES, num_answers=2) == {
        "answers": pytest.approx(5 / 3),
        "best/accuracy": pytest.approx(2 / 3),
        "best/brevity": 1.0,
        "diversity": pytest.approx(2**0.5 / 2),
    }
    assert set_measures(SETS[1:, 1:], NAMES, num_answers=2) == {}
    alone = set_measures(SETS[:1, 1:], NAMES, num_answers=2)
    assert alone == {"answers": 1.0, "best/accuracy": 0.0, "best/brevity": 1.0}


def test_evaluation_pools_the_answers_of_a_problem():
    completions = [Completion("", (), True)] * 2
    problems = [
        AnsweredProblem(Prompt("", "", i), completions, rewards) for i, rewards in enumerate(SETS)
    ]
    intervals = set_report(Evaluation(NAMES, problems), num_answers=2, ks=(3,))
    means = {name: interval and interval.mean for name, interval in intervals.items()}
    assert means == {
        "accuracy/best@1": pytest.approx((1 / 3 + 1) / 2),
        "accuracy/best@2": pytest.approx((2 / 3 + 1) / 2),
        "accuracy/best@3": 1.0,
        "accuracy/best@4": None,
        "brevity/best@1": pytest.approx((2 / 3 + 1) / 2),
        "brevity/best@2": 1.0,
        "brevity/best@3": 1.0,
        "brevity/best@4": None,
        "diversity": pytest.approx((2**0.5 + 0) / 2),
    }
