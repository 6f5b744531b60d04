"""Episodes of several turns through the train step, tool output read and not learnt from."""

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
# Two turns with a tool's answer between, three turns, one turn, and none; -1 is not the policy's.
KINDS = np.array(
    [
        [0, 0, -1, -1, 1, 1, -1],
        [0, -1, 1, -1, 2, 2, 2],
        [0, 0, 0, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1],
    ]
)


def episodes():
    """Eight groups of these four, rewards turn by turn; the tools' log-probabilities are NaN."""
    experience = ragged_experience()
    turns = jnp.asarray(np.tile(KINDS, (8, 1, 1)), jnp.int32)
    is_turn = tokens_per_turn(turns, num_turns=NUM_TURNS) > 0
    tokens = np.random.default_rng(3).integers(1, 6, turns.shape)
    return experience._replace(
        completion_tokens=jnp.asarray(tokens, jnp.int32),
        completion_mask=turns >= 0,
        logprobs=jnp.where(turns >= 0, -1.8, jnp.nan),
        reward_mask=is_turn,
        turns=turns,
    )


def by_turns(rewards, mask, state, key, /, *, lengths=None):
    del key, lengths
    return gtpo(rewards, mask), state


def test_each_token_has_the_advantage_of_its_turn():
    turns = jnp.asarray(np.tile(KINDS, (2, 1, 1)), jnp.int32)
    advantages = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, NUM_TURNS)), jnp.float32)
    found = np.asarray(advantages_per_token(advantages, turns))
    for index in np.ndindex(*turns.shape):
        turn = int(turns[index])
        assert found[index] == (advantages[(*index[:2], turn)] if turn >= 0 else 0.0)
    counts = [[2, 2, 0], [1, 1, 3], [3, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(tokens_per_turn(turns, num_turns=NUM_TURNS), [counts, counts])


def test_the_gradient_is_that_of_a_float64_loop_over_the_policys_own_tokens():
    """In two micro-batches: turns, their advantages and what is masked stay with their rows."""
    experience = episodes()
    step = step_of(
        table_loss(),
        aggregator=Aggregator(lambda num_objectives: (), by_turns),
        learning=LearningConfig(micro_batches=2),
    )
    gradient, metrics, advantages = descent(step, experience)
    assert advantages.shape == (8, 4, NUM_TURNS)
    of_tokens = np.asarray(advantages_per_token(advantages, experience.turns))
    first, tool, second, _, third, *_ = of_tokens[0, 1]
    assert len({first, second, 0.0}) == 3, "turns differ"
    assert tool == third == 0, "a tool's token, and a turn that no other episode has"
    expected = gradient_by_loop(experience, of_tokens, reduction="token_mean")
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    own = int((KINDS >= 0).sum())
    of_three = own / 3  # the fourth wrote nothing
    np.testing.assert_allclose(metrics["completion_length"].value, of_three, rtol=1e-6)
    assert new_state(optax.sgd(1.0)).aggregator_state == ()
