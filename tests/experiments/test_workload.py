"""Workloads of the benchmarks: lengths, determinism, tokenizer and rewards."""

import numpy as np
import pytest
from words import few_nines, sevens, words_of
from workload import WARM_UP, Workload, ragged_lengths
from workload_cases import make

from dvaojax.models.presets import PRESETS


@pytest.fixture(scope="module")
def lengths():
    return ragged_lengths(np.random.default_rng(0), (40_000,), maximum=1024)


def test_mean_of_ragged_lengths_is_a_quarter_of_the_maximum(lengths):
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


def test_workload_is_deterministic_and_round_trips(tmp_path):
    made = make(ragged=True)
    made.save(tmp_path / "workload.json")
    assert Workload.load(tmp_path / "workload.json") == made == make(ragged=True)


def test_workload_has_the_given_shape():
    full, ragged = make(), make(ragged=True)
    assert np.shape(full.prompts) == (WARM_UP + 5, 3, 6)
    assert np.shape(full.limits) == (WARM_UP + 5, 3, 4)
    assert np.all(np.array(full.limits) == 40)
    assert full.prompts == ragged.prompts
    assert (full.is_ragged, ragged.is_ragged) == (False, True)
    assert np.min(full.prompts) >= 1
    assert np.max(full.prompts) < PRESETS["tiny"].vocab_size


@pytest.mark.parametrize("ragged", [False, True])
def test_words_round_trip_and_ends_have_no_text(ragged):
    words = words_of(make(ragged=ragged))
    tokens = [1, 7, 511, 9]
    assert words.encode(words.decode(tokens)) == tokens
    assert words.decode([3, words.eos_id(), words.pad_id()]) == "w3"


def test_end_is_in_the_vocabulary_only_with_imposed_lengths():
    full, ragged = make(), make(ragged=True)
    assert words_of(full).end == full.model["vocab_size"]
    assert words_of(ragged).end == 0


def test_rewards_count_whole_words():
    assert sevens("w7 w77 w7 w17") == 2.0
    assert few_nines("w9 w99") == 1.0
    assert few_nines("w9 w1 w9") == 0.0
