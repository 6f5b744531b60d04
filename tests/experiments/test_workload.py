"""What every system is asked to do: the same for all, and of the lengths that were asked for."""

import numpy as np
import pytest
from words import few_nines, sevens, words_of
from workload import WARM_UP, Workload, ragged_lengths
from workload_cases import make

from dvaojax.models.presets import PRESETS


@pytest.fixture(scope="module")
def lengths():
    return ragged_lengths(np.random.default_rng(0), (40_000,), maximum=1024)


def test_ragged_lengths_have_a_quarter_of_the_maximum_as_their_mean(lengths):
    assert np.mean(lengths) / 1024 == pytest.approx(0.25, rel=0.03)


def test_one_ragged_length_in_32_is_at_the_maximum(lengths):
    assert np.mean(lengths == 1024) * 32 == pytest.approx(1, rel=0.15)


def test_the_other_ragged_lengths_are_log_normal(lengths):
    logarithms = np.log(lengths[lengths < 1024])
    assert np.std(logarithms) == pytest.approx(0.7, rel=0.05)
    z = (logarithms - np.mean(logarithms)) / np.std(logarithms)
    assert np.mean(z < 1) == pytest.approx(0.841, abs=0.01)
    assert np.mean(z < -1) == pytest.approx(0.159, abs=0.01)


@pytest.mark.parametrize("maximum", [1, 2, 7])
def test_ragged_lengths_stay_within_a_small_maximum(maximum):
    lengths = ragged_lengths(np.random.default_rng(0), (500,), maximum=maximum)
    assert set(lengths) <= set(range(1, maximum + 1))
    assert maximum in lengths


def test_a_workload_is_the_same_each_time_and_comes_back_from_its_file(tmp_path):
    made = make(ragged=True)
    made.save(tmp_path / "workload.json")
    assert Workload.load(tmp_path / "workload.json") == made == make(ragged=True)


def test_a_workload_has_the_shape_that_was_asked_for():
    full, ragged = make(), make(ragged=True)
    assert np.shape(full.prompts) == (WARM_UP + 5, 3, 6)
    assert np.shape(full.limits) == (WARM_UP + 5, 3, 4)
    assert np.all(np.array(full.limits) == 40)
    assert full.prompts == ragged.prompts
    assert (full.is_ragged, ragged.is_ragged) == (False, True)
    assert np.min(full.prompts) >= 1
    assert np.max(full.prompts) < PRESETS["tiny"].vocab_size


@pytest.mark.parametrize("ragged", [False, True])
def test_words_come_back_as_the_tokens_they_were_and_ends_have_no_text(ragged):
    words = words_of(make(ragged=ragged))
    tokens = [1, 7, 511, 9]
    assert words.encode(words.decode(tokens)) == tokens
    assert words.decode([3, words.eos_id(), words.pad_id()]) == "w3"


def test_an_end_can_be_sampled_only_where_lengths_are_imposed():
    full, ragged = make(), make(ragged=True)
    assert words_of(full).end == full.model["vocab_size"]
    assert words_of(ragged).end == 0


def test_the_rewards_count_whole_words():
    assert sevens("w7 w77 w7 w17") == 2.0
    assert few_nines("w9 w99") == 1.0
    assert few_nines("w9 w1 w9") == 0.0
