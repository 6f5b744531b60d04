"""Every loss of `losses.BY_NAME`, compiled in one program to save compilation time."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from loss_oracles import KNOBS, REDUCTIONS, inputs_of, ragged_batch

from dvaojax import losses
from dvaojax.losses import SurrogateInfo
from dvaojax.numerics import Mean

NAMES = sorted(losses.BY_NAME)


class LossResult(NamedTuple):
    """Values and gradients of a loss on a batch.

    Attributes:
        means: name of the reduction -> loss.
        info: metrics of the loss.
        slopes: gradient of the total under `sequence_mean` by (logp, logp_old, advantages).
    """

    means: dict[str, Mean]
    info: SurrogateInfo
    slopes: tuple[Array, Array, Array]


def loss_results(knobs_of=KNOBS):
    """A jitted function from a batch to the `LossResult` of every loss."""

    @jax.jit
    def results(batch):
        return {name: one_result(name, batch, knobs_of.get(name, {})) for name in NAMES}

    return results


def one_result(name, batch, knobs):
    loss = partial(losses.BY_NAME[name], where=batch.where, **inputs_of(name, batch), **knobs)

    def total(logp, logp_old, advantages):
        mean, info = loss(logp, logp_old, advantages, reduce=losses.sequence_mean)
        return mean.total, info

    slopes, info = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(*batch[:3])
    means = {key: loss(*batch[:3], reduce=reduce)[0] for key, reduce in REDUCTIONS.items()}
    return LossResult(means, info, slopes)


def small_batch(seed=0, dtype=np.float32, shape=(4, 4, 6)):
    """A ragged batch with an empty group, a zero-variance group and a completion with advantage 0.

    No probability is so close to 1 that LCO bounds it.
    """
    batch = ragged_batch(seed, shape=shape, dtype=np.float64)
    logp_old = np.minimum(batch.logp_old, -0.05)
    logp = np.minimum(logp_old + (batch.logp - batch.logp_old), -0.04)
    batch.where[-1] = False
    batch.where[0, 0] = True
    batch.advantages[1] = 0.7
    batch.advantages[0, 1] = 0.0
    return batch._replace(
        logp=logp.astype(dtype),
        logp_old=logp_old.astype(dtype),
        advantages=batch.advantages.astype(dtype),
    )
