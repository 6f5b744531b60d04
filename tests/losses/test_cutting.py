"""How a batch is cut, into micro-batches or over devices, changes neither loss nor gradient."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from loss_oracles import REDUCTIONS, ragged_batch

from dvaojax.losses import clipped_surrogate, k2, kl_penalty

VOCABULARY = 5
WEIGHTS = jnp.linspace(-0.2, 0.3, VOCABULARY)
CUTS = [1, 2, 4, 8]


class Tokens(NamedTuple):
    """A batch of sampled tokens; every leaf is cut along its first axis."""

    tokens: np.ndarray
    logp: np.ndarray
    logp_old: np.ndarray
    advantages: np.ndarray
    where: np.ndarray


def uneven_batch() -> Tokens:
    """Eight groups: one full, one nearly empty, one with nothing in it, the rest ragged."""
    batch = ragged_batch(11, shape=(8, 4, 12))
    batch.where[0] = True
    batch.where[1, :, 1:] = False
    batch.where[-1] = False
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, batch.where.shape)
    return Tokens(tokens, *batch)


def objective(weights, batch, reduce):
    """The sum to differentiate, and the means of loss, penalty and metrics in two halves.

    The policy's parameters are shared by all tokens, so that pieces have to be added.
    """
    logp = batch.logp + jax.nn.log_softmax(weights)[batch.tokens]
    loss, info = clipped_surrogate(
        logp, batch.logp_old, batch.advantages, where=batch.where, reduce=reduce
    )
    penalty = kl_penalty(logp, batch.logp_old, where=batch.where, estimator=k2, reduce=reduce)
    return loss.total + 0.3 * penalty.total, (loss, penalty, info)


@pytest.fixture(params=sorted(REDUCTIONS), scope="module")
def step(request):
    reduce = REDUCTIONS[request.param]
    return jax.jit(jax.grad(lambda w, batch: objective(w, batch, reduce), has_aux=True))


def divided(gradient, means):
    """What a step uses: the gradient over the global count, and the value of every mean."""
    loss, penalty, info = means
    chex.assert_trees_all_equal(loss.count, penalty.count)
    return gradient / loss.count, [mean.value for mean in (loss, penalty, *info)]


@pytest.fixture(scope="module")
def uncut(step):
    """The same of the batch in one piece."""
    gradient, values = divided(*step(WEIGHTS, uneven_batch()))
    assert np.abs(gradient).min() > 1e-3
    return jax.device_get((gradient, values))


@pytest.mark.parametrize("number", CUTS)
def test_micro_batches(step, uncut, number):
    batch = uneven_batch()
    pieces = [Tokens(*leaves) for leaves in zip(*(np.split(x, number) for x in batch), strict=True)]
    halves = [step(WEIGHTS, piece) for piece in pieces]
    added = jax.tree.map(lambda *parts: sum(parts), *halves)
    chex.assert_trees_all_close(divided(*added), uncut, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", CUTS)
def test_devices(step, uncut, number):
    mesh = jax.make_mesh(
        (number,),
        ("data",),
        devices=jax.devices()[:number],
        axis_types=(jax.sharding.AxisType.Auto,),
    )
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["data"], []))
    batch = jax.device_put(uneven_batch(), split)
    assert len(batch.where.sharding.device_set) == number
    parts = divided(*step(jax.device_put(WEIGHTS, whole), batch))
    chex.assert_trees_all_close(jax.device_get(parts), uncut, rtol=1e-5, atol=1e-6)


def test_the_mean_of_the_means_would_be_another_number(step, uncut):
    # What the two tests above would not notice on groups of equal length.
    pieces = [Tokens(*(x[i : i + 1] for x in uneven_batch())) for i in range(8)]
    values = [divided(*step(WEIGHTS, piece))[1] for piece in pieces]
    mean_of_means = np.mean(values, axis=0)
    assert np.all(np.abs(mean_of_means - uncut[1]) > 1e-4)
