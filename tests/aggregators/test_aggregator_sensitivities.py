"""Gradients through the aggregators: closed forms (13 to 15), finite differences, and masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import FAMILIES, every
from invariant_assertions import assert_sensitivities
from slowness import nightly_but

from dvaojax.aggregators import advantage_combination, dvao, reward_combination

pytestmark = pytest.mark.slow

B, G, K = 2, 5, 3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rewards():
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, G, K)))


@pytest.fixture
def weights():
    return jnp.asarray([0.5, 0.3, 0.2], jnp.float64)


def jacobian_of(function, rewards, weights):
    """`[B, G, G, K]`, the Jacobian of each group's advantages with respect to its rewards."""

    def one_group(r):
        return function(r, weights)

    return jax.jit(jax.vmap(jax.jacrev(one_group)))(rewards)


@pytest.mark.slow
@pytest.mark.parametrize("ddof", [0, 1])
def test_13_to_15_sensitivities_of_dvao(rewards, weights, ddof):
    function = functools.partial(dvao, ddof=ddof)
    deviation = jnp.std(rewards, axis=1, ddof=ddof)
    assert_sensitivities(
        jacobian_of(function, rewards, weights),
        jnp.broadcast_to(function(rewards, weights)[..., None], rewards.shape),
        (rewards - rewards.mean(1, keepdims=True)) / deviation[:, None],
        weights[None] / (deviation @ weights)[:, None],
        ddof=ddof,
    )


@pytest.mark.parametrize("ddof", [0, 1])
def test_13_to_15_sensitivities_of_reward_combination(rewards, weights, ddof):
    function = functools.partial(reward_combination, ddof=ddof)
    advantages = jnp.broadcast_to(function(rewards, weights)[..., None], rewards.shape)
    assert_sensitivities(
        jacobian_of(function, rewards, weights),
        advantages,
        advantages,
        weights[None] / jnp.std(rewards @ weights, axis=1, ddof=ddof)[:, None],
        ddof=ddof,
    )


@pytest.mark.parametrize("ddof", [0, 1])
def test_13_to_15_sensitivities_of_advantage_combination(rewards, weights, ddof):
    function = functools.partial(advantage_combination, ddof=ddof)
    deviation = jnp.std(rewards, axis=1, ddof=ddof)
    scores = (rewards - rewards.mean(1, keepdims=True)) / deviation[:, None]
    assert_sensitivities(
        jacobian_of(function, rewards, weights),
        scores,
        scores,
        weights[None] / deviation,
        ddof=ddof,
    )


def test_wrong_sensitivity_is_reported(rewards, weights):
    jacobian = jacobian_of(dvao, rewards, weights)
    deviation = jnp.std(rewards, axis=1)
    scores = (rewards - rewards.mean(1, keepdims=True)) / deviation[:, None]
    with pytest.raises(ValueError, match="13 to 15"):  # the closed form of AC
        assert_sensitivities(
            jacobian, scores, scores, weights[None] / (deviation @ weights)[:, None], ddof=0
        )


@pytest.mark.parametrize("family", nightly_but(["first"], FAMILIES))
def test_gradients_equal_finite_differences(family, rewards, weights):
    mask = np.ones((B, G, K), bool)
    mask[0, 1, 2] = mask[1, 0, :] = False
    probe = jnp.asarray(np.random.default_rng(1).normal(size=(B, G)))

    @jax.jit
    def scalars(r):
        return {name: jnp.sum(probe * a) for name, a in every(family, r, weights, mask).items()}

    gradients = jax.jit(jax.jacrev(scalars))(rewards)
    step = 1e-6
    for index in np.ndindex(B, G, K):
        above = scalars(rewards.at[index].add(step))
        below = scalars(rewards.at[index].add(-step))
        for name, gradient in gradients.items():
            difference = (above[name] - below[name]) / (2 * step)
            np.testing.assert_allclose(
                gradient[index], difference, atol=1e-7, err_msg=f"{name} {index}"
            )
    for name, gradient in gradients.items():
        assert np.all(np.asarray(gradient)[~mask] == 0), name


@pytest.mark.slow
@pytest.mark.parametrize("family", nightly_but(["first"], FAMILIES))
def test_gradients_are_finite_where_nothing_can_be_learned(family, weights):
    rewards = np.full((3, 4, K), 0.1)
    rewards[1, :, 0] = np.nan  # masked
    rewards[2, :, 0] = [0, 1, 0, 1]
    mask = np.isfinite(rewards)

    def sum_of_all(r, w):
        return sum(jnp.sum(a**2) for a in every(family, r, w, mask).values())

    for gradient in jax.jit(jax.grad(sum_of_all, (0, 1)))(jnp.asarray(rewards), weights):
        assert np.all(np.isfinite(gradient))
