"""Presets have the published number of parameters."""

import math

import jax
import pytest

from dvaojax import models
from dvaojax.models.presets import PRESETS

# Billions, tied embeddings counted once, from the models' cards on the hub.
PUBLISHED = {
    "qwen3-0.6b": 0.60,
    "qwen3-1.7b": 1.72,
    "qwen3-4b": 4.02,
    "qwen3-8b": 8.19,
    "qwen3-32b": 32.76,
    "qwen2.5-1.5b": 1.54,
    "qwen2.5-3b": 3.09,
    "qwen2.5-7b": 7.62,
    "qwen2.5-math-7b": 7.62,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_number_of_parameters_is_the_published_one(name):
    shapes = jax.eval_shape(lambda: models.init(PRESETS[name], jax.random.key(0)))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert round(count / 1e9, 2) == PUBLISHED[name]


def test_every_preset_is_compared_with_its_model_card():
    assert set(PRESETS) == {"tiny", *PUBLISHED}
