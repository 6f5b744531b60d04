"""Memory of a train step of Qwen3-1.7B, from the compiler's plan; nothing is allocated."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from dvaojax import models
from dvaojax.aggregators import dvao, stateless
from dvaojax.learning.gradients import init_learner
from dvaojax.learning.optimizer import OptimizerConfig, make_optimizer
from dvaojax.learning.policy_loss import LossConfig, make_policy_loss
from dvaojax.learning.train_step import LearningConfig, TrainState, make_train_step
from dvaojax.models.presets import PRESETS
from dvaojax.types import Experience

MODEL = PRESETS["qwen3-1.7b"]
PROMPTS, GROUP, PROMPT_LENGTH, LENGTH = 8, 16, 512, 1024
GIB = 2**30


def experience(prompts, group):
    def shape(dtype, *axes):
        return jax.ShapeDtypeStruct(axes, dtype)

    return Experience(
        prompt_tokens=shape("int32", prompts, PROMPT_LENGTH),
        prompt_lengths=shape("int32", prompts),
        completion_tokens=shape("int32", prompts, group, LENGTH),
        completion_mask=shape("bool", prompts, group, LENGTH),
        logprobs=shape("float32", prompts, group, LENGTH),
        rewards=shape("float32", prompts, group, 2),
        reward_mask=shape("bool", prompts, group, 2),
    )


def planned(prompts=PROMPTS, group=GROUP, *, model=MODEL):
    """The compiler's memory plan of one step on one device, all groups at once."""
    optimizer = make_optimizer(OptimizerConfig(), num_updates=10)
    aggregator = stateless(dvao, weights=jnp.ones(2))
    loss = make_policy_loss(LossConfig(), model=model, temperature=1.0, max_new_tokens=LENGTH)
    step = make_train_step(LearningConfig(), loss=loss, optimizer=optimizer, aggregator=aggregator)

    def begin(key):
        learner = init_learner(models.init(model, key), optimizer)
        return TrainState(jnp.zeros((), jnp.int32), learner, aggregator.init(2), key)

    state = jax.eval_shape(begin, jax.random.key(0))
    lowered = jax.jit(step, donate_argnums=0).lower(state, experience(prompts, group), None)
    return lowered.compile().memory_analysis()


@pytest.fixture(scope="module")
def plan():
    return planned()


@pytest.mark.slow
def test_the_state_is_donated(plan):
    # Parameters and two moments in float32; outputs reuse the buffers of inputs.
    assert plan.argument_size_in_bytes == pytest.approx(3 * 4 * 1.72057e9, rel=0.001)
    assert plan.alias_size_in_bytes == pytest.approx(plan.argument_size_in_bytes, rel=0.001)


LIMIT_GIB = 95.0  # measured: 83


@pytest.mark.slow
def test_temporaries_are_below_the_limit(plan):
    assert plan.temp_size_in_bytes / GIB < LIMIT_GIB


@pytest.mark.nightly
def test_repeated_prompts_would_exceed_the_limit():
    assert planned(PROMPTS * GROUP, 1).temp_size_in_bytes / GIB > LIMIT_GIB


@pytest.mark.nightly
def test_unchunked_logits_would_exceed_the_limit():
    whole = dataclasses.replace(MODEL, logits_chunk=PROMPTS * GROUP * LENGTH)
    assert planned(model=whole).temp_size_in_bytes / GIB > LIMIT_GIB
