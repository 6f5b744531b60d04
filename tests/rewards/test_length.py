import json
from functools import partial

import pytest
from hostile_texts import TEXTS, completion
from hypothesis import given
from hypothesis import strategies as st
from shared_data import shared

from dvaojax.rewards import (
    conditioned,
    overlong_penalty,
    overlong_penalty_verl,
    within_budget,
    without_stop_token,
)

DAPO = {"max_length": 20_480, "buffer": 4_096}


@pytest.mark.parametrize(
    ("length", "reward"), [(0, 1.0), (1, 1.0), (3_999, 1.0), (4_000, 1.0), (4_001, 0.0)]
)
@pytest.mark.parametrize("stopped", [True, False])
def test_budget_is_inclusive_and_counts_the_stop_token(length, reward, stopped):
    answer = completion("x", length=length, stopped=stopped)
    assert within_budget(answer, None, budget=4_000) == reward


def test_stop_token_after_a_full_budget_exceeds_it():
    answer = completion("x" * 4_000, length=4_000 + 1)
    assert within_budget(answer, None, budget=4_000) == 0.0


def test_length_reward_ignores_the_text():
    for text in TEXTS.values():
        assert within_budget(completion(text), "7", budget=3) == 1.0
        assert within_budget(completion(text), "7", budget=2) == 0.0


def constant(value):
    return lambda completion, reference: value


def edge_cases(kind):
    lines = shared("edge_cases", "length.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == kind]
    assert rows
    return rows


def test_published_boundary_cases():
    for row in edge_cases("binary_length"):
        brief = partial(within_budget, budget=row["limit"])
        answer = completion("", length=row["length"])
        assert brief(answer, None) == row["length_reward"]
        reward = conditioned(answer, None, easy=brief, hard=constant(row["correct"]))
        assert reward == row["conditioned_length_reward"]


def test_published_overlong_cases():
    for row in edge_cases("dapo_overlong"):
        answer = completion("", length=row["length"])
        limits = {"max_length": row["max_len"], "buffer": row["buffer"]}
        assert overlong_penalty(answer, None, **limits) == row["paper"]
        assert overlong_penalty_verl(answer, None, **limits) == row["verl"]


@given(length=st.integers(0, 100_000), buffer=st.integers(1, 20_480))
def test_overlong_penalties_differ_only_above_the_limit(length, buffer):
    answer = completion("", length=length)
    ours = overlong_penalty(answer, None, max_length=20_480, buffer=buffer)
    verls = overlong_penalty_verl(answer, None, max_length=20_480, buffer=buffer)
    assert ours == max(verls, -1.0)
    assert -1.0 <= ours <= 0.0


def test_overlong_penalty_without_buffer_is_a_step():
    for length, reward in ((20_479, 0.0), (20_480, 0.0), (20_481, -1.0)):
        answer = completion("", length=length)
        assert overlong_penalty(answer, None, max_length=20_480, buffer=0) == reward


@pytest.mark.parametrize("penalty", [overlong_penalty, overlong_penalty_verl])
@pytest.mark.parametrize("buffer", [-1, 20_481])
def test_rejects_buffer_outside_the_limit(penalty, buffer):
    with pytest.raises(ValueError, match=rf"buffer={buffer} must lie between"):
        penalty(completion(""), None, max_length=20_480, buffer=buffer)


def test_verl_penalty_rejects_zero_buffer():
    with pytest.raises(ValueError, match="buffer=0 must lie between 1 and"):
        overlong_penalty_verl(completion(""), None, max_length=20_480, buffer=0)


def test_penalty_factor_scales_the_penalty():
    answer = completion("", length=18_432)
    assert overlong_penalty_verl(answer, None, **DAPO, penalty_factor=2.0) == -1.0


def test_length_with_and_without_stop_token():
    brief = partial(within_budget, budget=4_000)
    ended, cut = completion("", length=4_001), completion("", length=4_001, stopped=False)
    assert brief(ended, None) == 0.0
    assert without_stop_token(ended, None, reward=brief) == 1.0
    assert without_stop_token(cut, None, reward=brief) == 0.0


@pytest.mark.parametrize(("hard", "paid"), [(0.0, 0.0), (0.49, 0.0), (0.5, 0.25), (1.0, 0.25)])
def test_conditioned_reward_threshold_is_inclusive(hard, paid):
    rewards = {"easy": constant(0.25), "hard": constant(hard)}
    assert conditioned(completion(""), None, **rewards, threshold=0.5) == paid


def test_conditioned_reward_does_not_apply_if_one_part_does_not():
    for easy, hard in ((None, 1.0), (1.0, None), (None, 0.0)):
        reward = conditioned(completion(""), None, easy=constant(easy), hard=constant(hard))
        assert reward is None
