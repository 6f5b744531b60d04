"""A learning rate that follows the signal-to-noise ratio of a step's gradients.

The micro-batches of an update are independent samples of one gradient. How far their gradients
scatter tells how much of their mean is noise, and the step is as long as its signal deserves
(OBLR-PO, arXiv 2511.23310). The paper's body was not available: THE ESTIMATES ARE A RECONSTRUCTION
from the bound on which its abstract rests,

$$ E\\, J(\\theta + \\eta \\hat g) \\ge J + \\eta |g|^2
   - \\tfrac{L}{2} \\eta^2 (|g|^2 + \\operatorname{tr} \\operatorname{Var} \\hat g), $$

which is largest at $\\eta = \\frac{1}{L} |g|^2 / (|g|^2 + \\operatorname{tr} \\operatorname{Var})$.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from dvaojax.numerics import Mean, safe_divide

SQUARES = "gradient_squares"
"""The metric of `squared_norm`; `update` replaces it by those of `measured_noise`."""


class SignalToNoiseState(NamedTuple):
    """Running means of what `measured_noise` returns, from 0.

    Both are too small by the same factor in the first updates, which cancels in their ratio.

    Attributes:
        signal: scalar, may be negative.
        noise: scalar, not negative.
    """

    signal: Array
    noise: Array


def squared_norm(gradient: Any) -> dict[str, Mean]:
    """The squared norm of a micro-batch's gradient, to be added over micro-batches and counted."""
    one = jnp.ones((), jnp.float32)
    return {SQUARES: Mean(optax.tree.norm(gradient, squared=True).astype(jnp.float32), one)}


def measured_noise(mean: Any, squares: Mean, count: Array) -> dict[str, Array]:
    r"""Signal and noise of the mean gradient of one update.

    With the gradients $g_m$ of M micro-batches, scaled so that their plain mean is the update's
    gradient,

    $$ \text{noise} = \frac{1}{M (M - 1)} \sum_m |g_m - \bar g|^2, \qquad
       \text{signal} = |\bar g|^2 - \text{noise}, $$

    the trace of the variance of $\bar g$, and an estimate of the squared norm of its expectation;
    both unbiased for independent micro-batches of equally many tokens (or completions, as the loss
    counts). Differences of these numbers count as noise, and so do those between short and long
    completions where packed groups are sorted by length into micro-batches.

    Args:
        mean: gradient of the update, a mean over what the loss counts.
        squares: the sum of the squared norms of the micro-batches' gradients, which are *sums* over
            what the loss counts; and M, at least 2.
        count: scalar, number of what the loss counts.

    Returns:
        `signal` and `noise`, scalars.
    """
    norm = optax.tree.norm(mean, squared=True).astype(jnp.float32)
    total, parts, count = (x.astype(jnp.float32) for x in (*squares, count))
    mean_square = safe_divide(parts * total, count * count)  # of the scaled gradients
    noise = jnp.maximum(mean_square - norm, 0) / (parts - 1)
    return {"signal": norm - noise, "noise": noise}


def signal_share(signal: Array, noise: Array) -> Array:
    """The share of a gradient's mean square that is signal.

    Args:
        signal: scalar, as from `measured_noise`; negative values count as 0.
        noise: scalar, not negative.

    Returns:
        Scalar in [0, 1]; 0 without a gradient.
    """
    positive = jnp.maximum(signal, 0)
    return safe_divide(positive, positive + noise)


def scale_by_signal_share(*, decay: float, floor: float) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies updates by the running share of signal in the gradients, as a learning rate.

    $$ \max\Big(\text{floor},\; \frac{\text{signal}^+}{\text{signal}^+ + \text{noise}}\Big) $$

    Signal and noise are averaged over updates before the ratio is formed, with weight `decay` for
    the past; the present update counts. As the last part of a chain it scales the learning rate of
    all that is before it, weight decay included. Both are measured in the gradients as they are,
    not in those that Adam has divided by their root mean squares.

    Not to be confused with: clipping by the norm, which shortens only large gradients. A step is
    the shorter the noisier its gradient, for any norm.

    Args:
        decay: weight of the past in the running means, in [0, 1).
        floor: smallest factor, in [0, 1]; the paper's abstract names none.

    Returns:
        A transformation whose `update` takes `signal` and `noise` in addition; without them, or if
        they are not finite, the running means stay.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0.0 <= decay < 1.0 or not 0.0 <= floor <= 1.0:
        raise ValueError(f"{decay=} must lie in [0, 1) and {floor=} in [0, 1]")

    def init(params: optax.Params) -> SignalToNoiseState:
        del params
        return SignalToNoiseState(*[jnp.zeros((), jnp.float32) for _ in range(2)])

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        signal: Array | float = math.nan,
        noise: Array | float = math.nan,
        **_: Any,
    ) -> tuple[optax.Updates, SignalToNoiseState]:
        del params
        measured = SignalToNoiseState(jnp.asarray(signal), jnp.asarray(noise))
        is_measured = jnp.isfinite(measured.signal) & jnp.isfinite(measured.noise)
        state = jax.tree.map(
            lambda old, new: jnp.where(is_measured, decay * old + (1 - decay) * new, old),
            state,
            measured,
        )
        factor = jnp.maximum(signal_share(*state), floor)
        return jax.tree.map(lambda u: u * factor.astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)
