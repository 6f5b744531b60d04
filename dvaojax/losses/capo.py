r"""CAPO: tokens that would move the policy too far are left out (Melo et al., arXiv 2510.00819).

Each token's gradient is tried at the output layer before the update: how far would a step of the
optimiser along it alone move the policy, and how much would the objective change? With the gradient
$g = A\, v \otimes h$ of a token, $v = e_a - \pi$, its hidden state h divided by the temperature,
the step d (`d = g` for the SGD model) and its change $u = d\,h$ of the logits,

$$ m_F = \tfrac12 \eta^2 (v \cdot u)^2, \qquad
   m_H = \eta \langle g, d \rangle + \tfrac12 \eta^2 A \big((v \cdot u)^2 - u^T F u\big), \qquad
   F = \operatorname{diag}(\pi) - \pi \pi^T $$

are the policy shift, half the squared change of the token's log-probability, and the objective
shift, the second-order change of $A\, \pi(a) / \pi_{old}(a)$. A token is kept if
$-\tau_H < m_H < \tau_H$ and $m_F < \tau_F$. Formulas, inequalities and the count of kept tokens are
those of the official code (luckeciano/stable-pg-llm@933fe01).

The shifts are not free of scale: they grow with the learning rate, the norm of the hidden states,
which differs between models, and the size of the advantages. So `PRESETS` says for which of these
the paper chose its thresholds; elsewhere, choose them by the quantiles that a run logs.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.numerics import Mean, require_shape


class Shifts(NamedTuple):
    """The changes that one step along each token's gradient would make, without gradient.

    Attributes:
        policy: `[...]` m_F, not negative.
        objective: `[...]` m_H, in the unit of the advantages.
    """

    policy: Array
    objective: Array


class Distribution(NamedTuple):
    """Statistics of the distribution that each token was sampled from.

    Attributes:
        logp: `[...]` log-probability of the token, in nats.
        squares: `[...]` sum of the squared probabilities of all other tokens.
        cubes: `[...]` sum of their cubes.
    """

    logp: Array
    squares: Array
    cubes: Array


def sgd_shifts(
    advantages: Array, distribution: Distribution, state_squares: Array, learning_rate: Array
) -> Shifts:
    r"""The shifts of a step of gradient descent, in closed form over the whole vocabulary.

    $$ m_F = \tfrac12 \eta^2 A^2 |h|^4 |v|^4, \qquad
       m_H = \eta A^2 |v|^2 |h|^2 + \tfrac12 \eta^2 A^3 |h|^4 (|v|^4 - v^T F v) $$

    with $q = 1 - \pi_a$ and the sums $S_2, S_3$ over all other tokens, $|v|^2 = q^2 + S_2$ and
    $v^T F v = \pi_a q^3 + 2 \pi_a q S_2 + S_3 - S_2^2$, which are exact where a token is nearly
    certain.

    Not to be confused with: a bound on the ratio, which acts after the policy has moved. A shift is
    predicted, from the gradient of one token alone; and it is not odd in the advantage.

    Args:
        advantages: `[...]`, one for each token.
        distribution: of arrays `[...]`.
        state_squares: `[...]`, squared norms of the hidden states divided by the temperature.
        learning_rate: scalar, of the update that is next.

    Returns:
        `[...]` each.

    Raises:
        AssertionError: the shapes do not match.
    """
    for name, x in {**distribution._asdict(), "state_squares": state_squares}.items():
        require_shape(name, x, advantages.shape, axes="[...]", like="advantages")
    logp, squares, cubes = distribution
    own, rest = jnp.exp(logp), -jnp.expm1(logp)
    length = jnp.square(rest) + squares
    curvature = own * rest**3 + 2 * own * rest * squares + (cubes - jnp.square(squares))
    step = learning_rate * advantages * state_squares  # u = step / learning_rate * v
    first = step * advantages * length
    second = 0.5 * jnp.square(step) * advantages * (jnp.square(length) - curvature)
    return _constant(Shifts(0.5 * jnp.square(step * length), first + second))


class AdamRows(NamedTuple):
    """Adam's state of the output matrix, as ascent on the objective, in rows of the vocabulary.

    Attributes:
        mean: `[..., K, D]`, first moments, not corrected for their start at 0.
        square: `[..., K, D]`, second moments.
        updates: scalar int, updates before this one.
        b1: decay rate of the first moment.
        b2: decay rate of the second moment.
        epsilon: added to the root of the second moment.
    """

    mean: Array
    square: Array
    updates: Array
    b1: float
    b2: float
    epsilon: float = 1e-8


def adam_shifts(
    advantages: Array,
    probabilities: Array,
    is_chosen: Array,
    states: Array,
    adam: AdamRows,
    learning_rate: Array,
) -> Shifts:
    r"""The shifts of a step of Adam, over the most likely tokens of the vocabulary.

    $$ d = \frac{(\beta_1 m + (1 - \beta_1) g) / (1 - \beta_1^{t+1})}
                {\sqrt{(\beta_2 s + (1 - \beta_2) g^2) / (1 - \beta_2^{t+1})} + \epsilon} $$

    elementwise, and $d = g$ before the first update, as in the official code. That code keeps
    moments of its own, the means of single tokens' gradients; here they are the optimiser's, of
    the mean gradient after clipping, which takes no memory. They are smaller, so that a token's own
    gradient has more influence on d than there.

    Not to be confused with: the update that the optimiser makes, which is one step for all tokens
    together. Nor is it the SGD model with a rescaled learning rate: Adam's step has about the same
    size for short gradients as for long ones.

    Args:
        advantages: `[...]`, one for each token.
        probabilities: `[..., K]` of the most likely tokens, which sum to 1.
        is_chosen: `[..., K]` bool, true for the sampled token; nowhere true if it is not among
            them.
        states: `[..., D]`, hidden states divided by the temperature.
        adam: the optimiser's moments of these tokens' rows of the output matrix.
        learning_rate: scalar, of the update that is next.

    Returns:
        `[...]` each.

    Raises:
        AssertionError: the shapes do not match.
    """
    shape = (*advantages.shape, probabilities.shape[-1])
    require_shape("probabilities", probabilities, shape, axes="[..., K]", like="advantages")
    require_shape("is_chosen", is_chosen, shape, axes="[..., K]", like="probabilities")
    moments = (*shape, states.shape[-1])
    require_shape("mean", adam.mean, moments, axes="[..., K, D]", like="states")
    difference = is_chosen.astype(probabilities.dtype) - probabilities
    gradient = (advantages[..., None] * difference)[..., None] * states[..., None, :]
    step = _adam_step(gradient, adam)
    logits = jnp.einsum("...kd,...d->...k", step, states, precision="highest")
    along = jnp.sum(difference * logits, axis=-1)
    mean = jnp.sum(probabilities * logits, axis=-1, keepdims=True)
    curvature = jnp.sum(probabilities * jnp.square(logits - mean), axis=-1)
    first = learning_rate * jnp.sum(gradient * step, axis=(-2, -1))
    second = 0.5 * learning_rate**2 * advantages * (jnp.square(along) - curvature)
    return _constant(Shifts(0.5 * jnp.square(learning_rate * along), first + second))


def _adam_step(gradient: Array, adam: AdamRows) -> Array:
    later = (adam.updates + 1).astype(gradient.dtype)
    mean = adam.b1 * adam.mean + (1 - adam.b1) * gradient
    square = adam.b2 * adam.square + (1 - adam.b2) * jnp.square(gradient)
    scale = jnp.sqrt(square / (1 - adam.b2**later)) + adam.epsilon
    return jnp.where(adam.updates == 0, gradient, mean / (1 - adam.b1**later) / scale)


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Bounds of the shifts of a kept token, both exclusive; infinity for no bound.

    Attributes:
        policy: of the policy shift, tau_F.
        objective: of the absolute objective shift, tau_H.
    """

    policy: float
    objective: float


def keeps(shifts: Shifts, thresholds: Thresholds) -> Array:
    r"""Which tokens are kept: those whose gradient would move policy and objective little.

    $$ m_F < \tau_F \quad\text{and}\quad -\tau_H < m_H < \tau_H $$

    A shift that is not a number does not reject its token, so that it is not hidden. The presets
    `capo`, `dr_capo` and `rein_capo` have the paper's thresholds for Qwen2.5-Math-7B at a learning
    rate of 1.5e-5 with Adam's step; they are not free of scale, see the module.

    Not to be confused with: a clip of the ratio, which acts after the policy has moved. These
    bounds act before, on single tokens, and where the ratio is 1.

    Args:
        shifts: of arrays `[...]`.
        thresholds: both positive, or infinite.

    Returns:
        `[...]` bool, true where no shift reaches its threshold.

    Raises:
        ValueError: a threshold is not positive.
    """
    if not (thresholds.policy > 0.0 and thresholds.objective > 0.0):
        raise ValueError(f"{thresholds} must be positive; infinity sets no bound")
    rejected = jnp.zeros(shifts.policy.shape, bool)
    if math.isfinite(thresholds.policy):
        rejected |= shifts.policy >= thresholds.policy
    if math.isfinite(thresholds.objective):
        rejected |= jnp.abs(shifts.objective) >= thresholds.objective
    return ~rejected


def over_kept(reduce: Reduction, keep: Array) -> Reduction:
    """A reduction over the kept tokens, counted as in the official code.

    A mean over tokens, and within a sequence, is divided by the number of kept tokens; sequences
    are counted if they have a sampled token, kept or not.

    Args:
        reduce: how the tokens are averaged.
        keep: `[..., T]` bool.
    """

    def reduction(values: Array, where: Array, /) -> Mean:
        mean = reduce(values, where & keep)
        return mean if reduce is token_mean else mean._replace(count=reduce(values, where).count)

    return reduction


class CapoPreset(NamedTuple):
    """Thresholds of the paper, and what they were chosen for.

    Attributes:
        thresholds: of the shifts.
        step: the model of the optimiser's step.
        aggregator: that the method is based on.
        reduction: that the method is based on.
    """

    thresholds: Thresholds
    step: Literal["sgd", "adam"]
    aggregator: str
    reduction: str


PRESETS: Mapping[str, CapoPreset] = {
    "capo": CapoPreset(Thresholds(1e-4, 1e-2), "adam", "grpo", "sequence_mean"),
    "dr_capo": CapoPreset(Thresholds(1e-3, 5e-4), "adam", "dr_grpo", "constant_length"),
    "rein_capo": CapoPreset(Thresholds(1e-5, 1e-1), "adam", "no baseline", "sequence_mean"),
}
"""CAPO, Dr.CAPO and ReinCAPO: for Qwen2.5-Math-7B on MATH at a learning rate of 1.5e-5.

The rate falls to 0 by a cosine after a warm-up over a tenth of 100 steps; 96 completions a step in
groups of 8, at most 1,024 tokens, AdamW's step over the 50 most likely tokens.
"""


def _constant(shifts: Shifts) -> Shifts:
    return jax.lax.stop_gradient(shifts)
