"""The policy gradient against a loop and against the clipped surrogate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import POISONS, REDUCTIONS, poisoned, ragged_batch, reduced

from dvaojax.losses import clipped_surrogate, policy_gradient


@pytest.fixture(params=sorted(REDUCTIONS))
def name(request):
    return request.param


def test_against_a_loop(name, transform):
    batch = ragged_batch(0)
    loss = transform(
        lambda logp, advantages: policy_gradient(
            logp, advantages, where=batch.where, reduce=REDUCTIONS[name]
        )
    )(batch.logp, batch.advantages)
    total, count = reduced(
        name, lambda i: -float(batch.advantages[i[:-1]]) * float(batch.logp[i]), batch.where
    )
    np.testing.assert_allclose(loss.total, total, rtol=1e-4)
    assert loss.count == count


def test_gradient_equals_that_of_the_clipped_surrogate_at_ratio_one(name):
    batch, reduce = ragged_batch(1), REDUCTIONS[name]
    plain = jax.grad(
        lambda x: policy_gradient(x, batch.advantages, where=batch.where, reduce=reduce).value
    )(batch.logp)
    clipped = jax.grad(
        lambda x: (
            clipped_surrogate(x, batch.logp, batch.advantages, where=batch.where, reduce=reduce)[
                0
            ].value
        )
    )(batch.logp)
    assert jnp.any(plain != 0.0)
    chex.assert_trees_all_close(plain, clipped, rtol=1e-6)


def test_an_advantage_per_token_and_one_per_sequence_agree_and_carry_no_gradient():
    batch = ragged_batch(2)
    spread = np.broadcast_to(batch.advantages[..., None], batch.logp.shape)
    grad = jax.grad(lambda x, a: policy_gradient(x, a, where=batch.where).value, (0, 1))
    one, each = grad(batch.logp, batch.advantages), grad(batch.logp, spread)
    chex.assert_trees_all_equal(one[0], each[0])
    assert not jnp.any(one[1])
    assert not jnp.any(each[1])


def test_values_in_padding_are_ignored(transform):
    batch = ragged_batch(3)
    empty = ~batch.where.any(axis=-1)
    assert empty.any()
    value_and_grad = transform(
        jax.value_and_grad(lambda x, a: policy_gradient(x, a, where=batch.where).value)
    )
    clean = value_and_grad(batch.logp, batch.advantages)
    assert np.isfinite(clean[1]).all()
    for poison in POISONS:
        dirty = value_and_grad(
            poisoned(batch.logp, batch.where, poison), poisoned(batch.advantages, ~empty, poison)
        )
        chex.assert_trees_all_equal(dirty, clean)
