"""The train step: micro-batches, order of the groups, and independence of both."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from every_aggregator import updated
from jax.sharding import NamedSharding, PartitionSpec
from learning_cases import (
    WEIGHTS,
    descent,
    gradient_by_loop,
    new_state,
    ragged_experience,
    step_of,
    table_loss,
    table_params,
    table_step,
)
from slowness import slow_but

from dvaojax import aggregators, losses
from dvaojax.aggregators import Aggregator
from dvaojax.learning.gradients import accumulate, gradient_of, update
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch
from dvaojax.learning.train_step import LearningConfig, make_train_step, update_order
from dvaojax.numerics import Mean
from dvaojax.sharding import MeshConfig, make_mesh, named

CUTS = [1, 2, 8]


def values(metrics):
    """The mean of every metric."""
    return {name: mean.value for name, mean in metrics.items()}


@pytest.mark.parametrize("reduction", slow_but(["token_mean"], sorted(losses.REDUCTIONS)))
def test_gradient_equals_that_of_a_float64_loop_for_any_number_of_micro_batches(reduction):
    config = LossConfig(reduction=reduction)
    experience = ragged_experience()
    uncut = None
    for cut in CUTS:
        step = table_step(config, learning=LearningConfig(micro_batches=cut))
        gradient, metrics, advantages = descent(step, experience)
        expected = gradient_by_loop(experience, advantages, reduction=reduction)
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
        uncut = uncut or (gradient, values(metrics), advantages)
        chex.assert_trees_all_close(
            (gradient, values(metrics), advantages), uncut, rtol=1e-5, atol=1e-6
        )
    assert 0 < uncut[1]["clip_fraction"] < 1


def test_advantages_are_computed_on_the_whole_batch_before_it_is_split():
    """With a method that normalises over the batch and uses lengths."""
    experience = ragged_experience()
    lengths = experience.completion_mask.sum(-1).astype(jnp.float32)
    method = aggregators.make("gdpo_token_weighted", WEIGHTS)
    whole, _ = method.update(experience.rewards, experience.reward_mask, (), None, lengths=lengths)
    shapes = []

    def watched(rewards, mask, state, key, /, *, lengths=None):
        shapes.append((rewards.shape, mask.shape, lengths.shape))
        return method.update(rewards, mask, state, key, lengths=lengths)

    aggregator, learning = Aggregator(method.init, watched), LearningConfig(2, 2, 2)
    step = step_of(table_loss(), aggregator=aggregator, learning=learning)
    advantages = descent(step, experience)[2]
    np.testing.assert_allclose(advantages, whole, rtol=1e-5, atol=1e-6)
    assert shapes == [((8, 4, 3), (8, 4, 3), (8, 4))]


def test_micro_batches_consist_of_whole_groups():
    """Trap 53: sizes counted in completions would be smaller and slower than configured."""
    shapes = []

    def loss(params, batch):
        shapes.append(jax.tree.map(jnp.shape, batch))
        total = jnp.sum(params["table"])
        return total, {"loss": Mean(total, jnp.ones(()))}

    descent(step_of(loss, learning=LearningConfig(1, 2, 2)), ragged_experience(length=7))
    for shape in shapes:
        assert shape.experience.completion_tokens == (2, 4, 7)
        assert (shape.advantages, shape.reference_logprobs) == ((2, 4), (2, 4, 7))


@pytest.mark.parametrize(("epochs", "mini", "micro"), [(1, 1, 4), (3, 2, 2), (2, 4, 1), (1, 8, 1)])
def test_every_group_is_used_once_per_epoch(epochs, mini, micro):
    config = LearningConfig(epochs, mini, micro)
    order = update_order(jax.random.key(0), config, num_prompts=8)
    assert order.shape == (epochs * mini, micro, 8 // mini // micro)
    assert config.updates_per_step == epochs * mini
    for groups in order.reshape(epochs, 8):
        assert sorted(groups.tolist()) == list(range(8))


def test_order_is_determined_by_the_key_and_differs_every_epoch():
    config = LearningConfig(epochs=3, mini_batches=4)
    first = update_order(jax.random.key(5), config, num_prompts=16)
    again = update_order(jax.random.key(5), config, num_prompts=16)
    other = update_order(jax.random.key(6), config, num_prompts=16)
    chex.assert_trees_all_equal(first, again)
    passes = {tuple(p) for p in first.reshape(3, 16).tolist() + other.reshape(3, 16).tolist()}
    assert len(passes) == 6


def test_single_update_per_pass_keeps_the_order():
    order = update_order(jax.random.key(0), LearningConfig(2, 1, 2), num_prompts=4)
    assert order.tolist() == [[[0, 1], [2, 3]]] * 2


@pytest.mark.parametrize(("mini", "micro"), [(3, 1), (1, 5), (2, 3)])
def test_rejects_indivisible_numbers_of_prompts(mini, micro):
    message = f"8 prompts .*mini_batches={mini} x learning.micro_batches={micro}"
    with pytest.raises(ValueError, match=message):
        update_order(jax.random.key(0), LearningConfig(1, mini, micro), num_prompts=8)


def test_rejects_settings_below_one():
    for field in ("epochs", "mini_batches", "micro_batches"):
        with pytest.raises(ValueError, match=f"learning.{field}=0 must be at least 1"):
            LearningConfig(**{field: 0})


def test_epochs_and_mini_batches_are_sequential_updates():
    learning = LearningConfig(epochs=2, mini_batches=4, micro_batches=2)
    loss, optimizer, experience = table_loss(), optax.adam(0.05), ragged_experience()
    state = new_state(optimizer, key=3)
    step = step_of(loss, optimizer=optimizer, learning=learning)
    after, metrics, advantages = step(state, experience, None)

    _, _, order_key = jax.random.split(state.key, 3)
    learner, ratios = state.learner, []
    batch = PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs))

    @jax.jit
    def one(learner, rows):
        gradient, metrics = accumulate(gradient_of(loss), learner.params, batch, rows[None])
        return update(learner, gradient, metrics, optimizer)

    for rows in update_order(order_key, learning, num_prompts=8):
        learner, metrics_of_update = one(learner, rows.reshape(-1))
        ratios.append(metrics_of_update["ratio"])
    chex.assert_trees_all_close(after.learner, learner, rtol=1e-5, atol=1e-6)
    expected = sum(r.total for r in ratios) / sum(r.count for r in ratios)
    np.testing.assert_allclose(metrics["ratio"].value, expected, rtol=1e-5)
    assert optax.tree.get(after.learner.optimizer_state, "count") == 8
    assert metrics["grad_norm"].count == 8


def test_state_is_carried_over_and_the_aggregator_is_called_once_per_step():
    def update(rewards, mask, state, key, /, *, lengths=None):
        noise = jax.random.normal(key, rewards.shape[:-1])
        return noise, state + 1

    step = step_of(
        table_loss(),
        aggregator=Aggregator(lambda k: jnp.zeros(()), update),
        learning=LearningConfig(epochs=3, mini_batches=2),
    )
    first = new_state(optax.sgd(1.0), aggregator_state=jnp.zeros(()))
    second, _, noise = step(first, ragged_experience(), None)
    again = step(first, ragged_experience(), None)
    third, _, other_noise = step(second, ragged_experience(), None)
    chex.assert_trees_all_equal(jax.tree.leaves(again[0].learner), jax.tree.leaves(second.learner))
    assert (second.aggregator_state, third.aggregator_state) == (1, 2)
    assert (second.step, third.step) == (1, 2)
    chex.assert_trees_all_equal(again[2], noise)
    assert not np.allclose(noise, other_noise)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(aggregators.METHODS))
def test_penalty_objective_changes_the_advantages_of_every_aggregator(name):
    """Trap 13: code that ignores penalties would not change the advantages."""
    experience = ragged_experience()
    everywhere = jnp.ones_like(experience.reward_mask)
    lengths = experience.completion_mask.sum(-1).astype(jnp.float32)

    @jax.jit
    def advantages(rewards):
        method = aggregators.make(name, WEIGHTS)
        state, key = method.init(3), jax.random.key(0)
        return updated(method, rewards, everywhere, state, key, lengths)[0]

    # The other objectives agree, for methods that drop completions with conflicting objectives.
    rewards = experience.rewards.at[..., 1].set(experience.rewards[..., 0])
    without = advantages(rewards.at[..., 2].set(0.0))
    penalty = -experience.completion_mask.sum(-1).astype(jnp.float32)
    with_penalty = advantages(rewards.at[..., 2].set(penalty))
    moved = jnp.any(jnp.abs(with_penalty - without) > 0.01, axis=-1)
    varies = jnp.std(penalty, axis=-1) > 0
    assert bool(jnp.all(moved[varies]))
    assert int(varies.sum()) >= 5


def test_rejects_experience_of_wrong_shapes():
    step = table_step()
    experience = ragged_experience()
    for wrong in (
        {"logprobs": experience.logprobs[..., :-1]},
        {"rewards": experience.rewards[:-1]},
        {"reward_mask": experience.reward_mask[..., :2]},
        {"prompt_lengths": experience.prompt_lengths[:4]},
    ):
        with pytest.raises(AssertionError):
            descent(step, experience._replace(**wrong))


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (2, 4)])
def test_rows_stay_aligned_in_the_sharded_step(data, fsdp):
    """Trap 28: advantages, tokens, log-probabilities and reference stay aligned.

    Every array contains the number of its completion, and the loss counts the rows whose numbers
    differ between arrays.
    """
    prompts, group, length = 16, 2, 3
    number = jnp.arange(prompts * group).reshape(prompts, group)
    per_token = jnp.broadcast_to(number[..., None], (prompts, group, length))
    experience = ragged_experience(prompts=prompts, group=group, length=length)._replace(
        completion_tokens=per_token,
        completion_mask=jnp.ones(per_token.shape, bool),
        logprobs=per_token.astype(jnp.float32),
        rewards=jnp.broadcast_to(number[..., None], (prompts, group, 3)).astype(jnp.float32),
        prompt_lengths=number[:, 0],
    )

    def loss(params, batch):
        tokens = batch.experience.completion_tokens
        others = (
            batch.experience.logprobs,
            jnp.broadcast_to(batch.advantages[..., None], tokens.shape),
            batch.reference_logprobs - 0.5,
            jnp.broadcast_to(
                batch.experience.prompt_lengths[:, None, None] + jnp.arange(group)[None, :, None],
                tokens.shape,
            ),
        )
        differing = sum(jnp.sum(tokens.astype(x.dtype) != x, dtype=jnp.float32) for x in others)
        uses = jnp.zeros(prompts * group).at[tokens[..., 0].reshape(-1)].add(1.0)
        total = jnp.sum(params["table"])
        one = jnp.ones(())
        return total, {
            "loss": Mean(total, one),
            "differing": Mean(differing, one),
            "uses": Mean(uses, one),
        }

    mesh = make_mesh(MeshConfig(data, fsdp, 1), jax.devices()[: data * fsdp])
    by_group, whole = named(mesh, "group"), NamedSharding(mesh, PartitionSpec())
    step = step_of(
        loss,
        aggregator=Aggregator(lambda k: (), lambda r, m, s, k, /, *, lengths=None: (r[..., 0], s)),
        learning=LearningConfig(epochs=2, mini_batches=2),
        reference_logprobs=lambda params, e: e.completion_tokens.astype(jnp.float32) + 0.5,
        constrain=lambda piece: jax.lax.with_sharding_constraint(piece, by_group),
    )
    state = jax.device_put(new_state(optax.sgd(1.0)), whole)
    _, metrics, advantages = step(state, jax.device_put(experience, by_group), table_params())
    assert metrics["differing"].total == 0
    np.testing.assert_array_equal(metrics["uses"].total, 2)
    np.testing.assert_array_equal(advantages, number)


def test_step_also_runs_without_jit():
    step = make_train_step(
        LearningConfig(),
        loss=table_loss(),
        optimizer=optax.sgd(1.0),
        aggregator=aggregators.make("rloo", WEIGHTS),
    )
    experience = ragged_experience()
    chex.assert_trees_all_close(
        descent(step, experience)[0], descent(table_step(), experience)[0], rtol=1e-5, atol=1e-7
    )
