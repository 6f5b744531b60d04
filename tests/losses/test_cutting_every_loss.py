"""How a batch is cut changes no loss, though some of them look at more than one token at a time.

A sequence is never cut, and neither is a group: what Clip-Cov and KL-Cov look at is one group.
"""

import chex
import jax
import numpy as np
import pytest
from every_loss import NAMES
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from loss_oracles import KNOBS
from test_cutting import WEIGHTS, Tokens, uneven_batch

from dvaojax import losses

SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in (2, 4)]
# With lots to draw, which belong to a token however the batch is cut.
CUT_KNOBS = {**KNOBS, "clip_cov": {**KNOBS["clip_cov"], "share": 0.1}}


@jax.jit
def step(weights, batch):
    """Name -> (gradient of the sum by parameters that all tokens share, means in two halves)."""

    def total(weights, name):
        logp = batch.logp + jax.nn.log_softmax(weights)[batch.tokens]
        mean, info = losses.BY_NAME[name](
            logp, batch.logp_old, batch.advantages, where=batch.where, **CUT_KNOBS[name]
        )
        return mean.total, (mean, info)

    return {name: jax.grad(total, has_aux=True)(weights, name) for name in NAMES}


def divided(found):
    """What a step uses of every loss."""
    return {
        name: (gradient / mean.count, mean.value, [part.value for part in info])
        for name, (gradient, (mean, info)) in found.items()
    }


@pytest.fixture(scope="module")
def uncut():
    found = jax.device_get(divided(step(WEIGHTS, uneven_batch())))
    for name in NAMES:
        assert np.abs(found[name][0]).max() > 1e-3
    assert 0 < found["clip_cov"][2][1] < 1
    assert 0 < found["kl_cov"][2][1] < 1
    return found


@pytest.mark.parametrize("number", [*SLOW, 8])
def test_micro_batches(uncut, number):
    batch = uneven_batch()
    pieces = [Tokens(*leaves) for leaves in zip(*(np.split(x, number) for x in batch), strict=True)]
    added = jax.tree.map(lambda *parts: sum(parts), *(step(WEIGHTS, piece) for piece in pieces))
    chex.assert_trees_all_close(jax.device_get(divided(added)), uncut, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [*SLOW, 8])
def test_devices(uncut, number):
    devices = jax.devices()[:number]
    mesh = jax.make_mesh((number,), ("data",), devices=devices, axis_types=(AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["data"], []))
    found = step(jax.device_put(WEIGHTS, whole), jax.device_put(uneven_batch(), split))
    chex.assert_trees_all_close(jax.device_get(divided(found)), uncut, rtol=1e-5, atol=1e-6)
