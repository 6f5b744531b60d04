"""One step of an aggregator with the metrics that `dvaojax train` logs, for other trainers."""

import functools
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dvaojax.aggregators import Aggregator, State, diagnostics
from dvaojax.errors import UserError


@functools.partial(jax.jit, static_argnames="aggregator")
def aggregate(
    aggregator: Aggregator,
    rewards: Array,
    weights: Array,
    mask: Array,
    state: State,
    key: Array,
    lengths: Array | None,
) -> tuple[Array, State, dict[str, Array]]:
    """One step of an aggregator, with metrics.

    Args:
        aggregator: rewards to advantages.
        rewards: `[B, G, K]`.
        weights: `[K]`, for the metrics.
        mask: `[B, G, K]` bool, false where an objective does not apply.
        state: the aggregator's state.
        key: a random key, consumed.
        lengths: `[B, G]` in tokens, or None.

    Returns:
        Advantages `[B, G]`, the next state, and metrics with the names of `dvaojax train`:
        `spread` and `effective_weight` `[K]` (`aggregators.Diagnostics`), `agreement`,
        `zero_variance_groups` and `advantage_mean_square` `[]`.
    """
    advantages, state = aggregator.update(rewards, mask, state, key, lengths=lengths)
    measured = diagnostics(rewards, weights, mask=mask)
    metrics = {
        "spread": measured.spread.value,
        "effective_weight": measured.effective_weight.value,
        "agreement": measured.mean_agreement.value,
        "zero_variance_groups": measured.zero_variance_groups.value,
        "advantage_mean_square": jnp.mean(jnp.square(advantages)),
    }
    return advantages, state, metrics


def require_no_norms(name: str, aggregator: Aggregator) -> None:
    """Raises `UserError` if a method needs what other trainers do not have."""
    if "scores" in aggregator.needs:
        raise UserError(
            f"{name} needs several scores of each completion, which only `dvaojax train` has "
            "(rewards.repeats): dvao_denoised takes the variance of their noise instead"
        )
    if aggregator.needs:
        raise UserError(
            f"{name} needs the squared gradient norms of completions or tokens, which only "
            "`dvaojax train` computes: opo takes the lengths of completions instead"
        )


def by_objective(
    metrics: Mapping[str, Array], objectives: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Scalars by name; `[K]` metrics become `NAME/OBJECTIVE`.

    Args:
        metrics: name -> a scalar, or one number per objective.
        objectives: `K` names.
    """
    for name, value in jax.device_get(dict(metrics)).items():
        if np.ndim(value) == 0:
            yield name, value
        else:
            yield from ((f"{name}/{o}", v) for o, v in zip(objectives, value, strict=True))
