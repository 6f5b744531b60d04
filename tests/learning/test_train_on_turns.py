"""Episodes of several turns in the train step: tool output is attended to, not learnt from."""

import jax.numpy as jnp
import numpy as np
import optax
from learning_cases import (
    descent,
    gradient_by_loop,
    new_state,
    ragged_experience,
    step_of,
    table_loss,
)

from dvaojax.aggregators import Aggregator
from dvaojax.aggregators.gtpo import gtpo
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.turns import advantages_per_token, tokens_per_turn

NUM_TURNS = 3
# Two turns with tool output in between, three turns, one turn, none; -1 is not sampled.
TURNS = np.array(
    [
        [0, 0, -1, -1, 1, 1, -1],
        [0, -1, 1, -1, 2, 2, 2],
        [0, 0, 0, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1],
    ]
)


def episodes():
    """Eight groups of these four, with rewards per turn; NaN for tool output."""
    experience = ragged_experience()
    turns = jnp.asarray(np.tile(TURNS, (8, 1, 1)), jnp.int32)
    is_turn = tokens_per_turn(turns, num_turns=NUM_TURNS) > 0
    tokens = np.random.default_rng(3).integers(1, 6, turns.shape)
    return experience._replace(
        completion_tokens=jnp.asarray(tokens, jnp.int32),
        completion_mask=turns >= 0,
        logprobs=jnp.where(turns >= 0, -1.8, jnp.nan),
        reward_mask=is_turn,
        turns=turns,
    )


def gtpo_update(rewards, mask, state, key, /, *, lengths=None):
    del key, lengths
    return gtpo(rewards, mask), state


def test_each_token_has_the_advantage_of_its_turn():
    turns = jnp.asarray(np.tile(TURNS, (2, 1, 1)), jnp.int32)
    advantages = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, NUM_TURNS)), jnp.float32)
    token_advantages = np.asarray(advantages_per_token(advantages, turns))
    for index in np.ndindex(*turns.shape):
        turn = int(turns[index])
        assert token_advantages[index] == (advantages[(*index[:2], turn)] if turn >= 0 else 0.0)
    counts = [[2, 2, 0], [1, 1, 3], [3, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(tokens_per_turn(turns, num_turns=NUM_TURNS), [counts, counts])


def test_gradient_equals_that_of_a_float64_loop_over_sampled_tokens():
    """In two micro-batches: turns, advantages and masks stay with their rows."""
    experience = episodes()
    step = step_of(
        table_loss(),
        aggregator=Aggregator(lambda num_objectives: (), gtpo_update),
        learning=LearningConfig(micro_batches=2),
    )
    gradient, metrics, advantages = descent(step, experience)
    assert advantages.shape == (8, 4, NUM_TURNS)
    token_advantages = np.asarray(advantages_per_token(advantages, experience.turns))
    first, tool, second, _, third, *_ = token_advantages[0, 1]
    assert len({first, second, 0.0}) == 3, "turns differ"
    assert tool == third == 0, "tool output, and a turn that no other episode has"
    expected = gradient_by_loop(experience, token_advantages, reduction="token_mean")
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    mean_length = int((TURNS >= 0).sum()) / 3  # the fourth episode is empty
    np.testing.assert_allclose(metrics["completion_length"].value, mean_length, rtol=1e-6)
    assert new_state(optax.sgd(1.0)).aggregator_state == ()
