"""Losses and gradients do not depend on how a batch is split over micro-batches and devices.

Sequences and groups are never split: Clip-Cov and KL-Cov select tokens within one group.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_loss import NAMES
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from loss_oracles import KNOBS, REDUCTIONS, inputs_of, ragged_batch

from dvaojax import losses

pytestmark = pytest.mark.slow

VOCABULARY = 5
WEIGHTS = jnp.linspace(-0.2, 0.3, VOCABULARY)
# With a share below 1 Clip-Cov draws random numbers, which must not depend on the split.
KNOBS_OF_LOSS = {**KNOBS, "clip_cov": {**KNOBS["clip_cov"], "share": 0.1}}


class TokenBatch(NamedTuple):
    """A batch of sampled tokens, split along the first axis of every leaf."""

    tokens: np.ndarray
    logp: np.ndarray
    logp_old: np.ndarray
    advantages: np.ndarray
    where: np.ndarray


def uneven_batch() -> TokenBatch:
    """Eight groups: a full one, an almost empty one, an empty one, and ragged ones."""
    batch = ragged_batch(11, shape=(8, 4, 12))
    batch.where[0] = True
    batch.where[1, :, 1:] = False
    batch.where[-1] = False
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, batch.where.shape)
    return TokenBatch(tokens, *batch)


def with_penalty(reduce):
    """The clipped surrogate plus a KL penalty, as a sum, and their means with the metrics."""

    def objective(logp, batch):
        arguments = {"where": batch.where, "reduce": reduce}
        loss, info = losses.clipped_surrogate(logp, batch.logp_old, batch.advantages, **arguments)
        penalty = losses.kl_penalty(logp, batch.logp_old, estimator=losses.k2, **arguments)
        return loss.total + 0.3 * penalty.total, (loss, penalty, *info)

    return objective


def alone(name):
    """A loss with its default reduction, as a sum, and its mean with the metrics."""

    def objective(logp, batch):
        knobs = {**inputs_of(name, batch), **KNOBS_OF_LOSS[name]}
        loss, info = losses.BY_NAME[name](
            logp, batch.logp_old, batch.advantages, where=batch.where, **knobs
        )
        return loss.total, (loss, *info)

    return objective


OBJECTIVES = {
    "reductions": {name: with_penalty(reduce) for name, reduce in REDUCTIONS.items()},
    "losses": {name: alone(name) for name in NAMES},
}


SPLITS = pytest.mark.parametrize(
    ("subject", "number"), [("reductions", 2), ("reductions", 8), ("losses", 8)]
)


@functools.cache
def compiled(subject):
    """Name -> (gradient of the sum by parameters shared by all tokens, means), as one program."""

    def gradients(weights, batch):
        def total(weights, objective):
            logp = batch.logp + jax.nn.log_softmax(weights)[batch.tokens]
            return objective(logp, batch)

        return {
            name: jax.grad(total, has_aux=True)(weights, objective)
            for name, objective in OBJECTIVES[subject].items()
        }

    return jax.jit(gradients)


def divided(results):
    """Name -> (gradient over the global count, the value of every mean)."""
    return {
        name: (gradient / means[0].count, [mean.value for mean in means])
        for name, (gradient, means) in results.items()
    }


@functools.cache
def uncut(subject):
    """The result of the batch in one piece."""
    results = jax.device_get(divided(compiled(subject)(WEIGHTS, uneven_batch())))
    for gradient, _ in results.values():
        assert np.abs(gradient).max() > 1e-3
    if subject == "losses":
        for name in ("clip_cov", "kl_cov"):
            assert 0 < results[name][1][2] < 1, "the share of selected tokens"
    return results


def pieces(number):
    """The batch in a number of pieces."""
    cut = (np.split(leaf, number) for leaf in uneven_batch())
    return [TokenBatch(*leaves) for leaves in zip(*cut, strict=True)]


@SPLITS
def test_micro_batches(subject, number):
    results = [compiled(subject)(WEIGHTS, piece) for piece in pieces(number)]
    added = jax.tree.map(lambda *parts: sum(parts), *results)
    chex.assert_trees_all_close(
        jax.device_get(divided(added)), uncut(subject), rtol=1e-5, atol=1e-6
    )


@SPLITS
def test_devices(subject, number):
    devices = jax.devices()[:number]
    mesh = jax.make_mesh((number,), ("data",), devices=devices, axis_types=(AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["data"], []))
    batch = jax.device_put(uneven_batch(), split)
    assert len(batch.where.sharding.device_set) == number
    results = divided(compiled(subject)(jax.device_put(WEIGHTS, whole), batch))
    chex.assert_trees_all_close(jax.device_get(results), uncut(subject), rtol=1e-5, atol=1e-6)


def test_the_mean_of_means_differs():
    """The tests above would not detect it on groups of equal length."""
    values = [divided(compiled("reductions")(WEIGHTS, piece)) for piece in pieces(8)]
    for name, (_, expected) in uncut("reductions").items():
        mean_of_means = np.mean([value[name][1] for value in values], axis=0)
        assert np.all(np.abs(mean_of_means - expected) > 1e-4)
