r"""Reductions of one value per token to one mean, kept as sum and count.

| name            | total                        | count                | from           |
|-----------------|------------------------------|----------------------|----------------|
| token_mean      | sum of all tokens            | tokens               | DAPO, Lite PPO |
| sequence_mean   | sum of the sequences' means  | sequences with tokens| GRPO, GSPO     |
| constant_length | sum of all tokens / `length` | sequences with tokens| Dr.GRPO        |

Totals and counts of micro-batches, devices and hosts are added first and divided once, which gives
the exact mean over all of them. (The mean of their means differs when lengths differ.) A sequence
without a valid token is not counted: masking a sequence equals removing it. A token whose advantage
is 0 is counted, unless `where` is false there.
"""

from typing import Protocol

import jax.numpy as jnp
from jax import Array

from dvaojax.losses.tokens import on_tokens
from dvaojax.numerics import Mean, masked_mean, masked_sum, safe_divide


class Reduction(Protocol):
    """`(values [..., T], where [..., T]) -> Mean`; bind other arguments with `partial`."""

    def __call__(self, values: Array, where: Array, /) -> Mean: ...


def token_mean(values: Array, where: Array) -> Mean:
    """Every token has the same weight, so a long sequence weighs more than a short one.

    DAPO (arXiv:2503.14476, section 3.3); verl's `token-mean`. For the mean over sequences of their
    means see `sequence_mean`.

    Args:
        values: `[..., T]`, one per token.
        where: `[..., T]` bool, true on the tokens that count.

    Returns:
        The sum over tokens and their number, both scalars.
    """
    return masked_mean(on_tokens(values, where), where)


def sequence_mean(values: Array, where: Array) -> Mean:
    """Every sequence has the same weight, so a token of a long sequence weighs less.

    The `1/G sum_i 1/|o_i| sum_t` of GRPO (arXiv:2402.03300, eq. 3); verl's `seq-mean-token-mean`.

    Args:
        values: `[..., T]`, one per token.
        where: `[..., T]` bool, true on the tokens that count.

    Returns:
        The sum of the sequences' means and the number of sequences that have a token.
    """
    values = on_tokens(values, where)
    lengths = jnp.sum(where, axis=-1, dtype=values.dtype)
    means = safe_divide(masked_sum(values, where, axis=-1), lengths)
    return Mean(jnp.sum(means), _sequences(where, values))


def constant_length(values: Array, where: Array, *, length: float) -> Mean:
    """The sum over each sequence divided by one constant, averaged over sequences.

    Dr.GRPO (arXiv:2503.20783, section 3.2); verl's `seq-mean-token-sum-norm`. Unlike in
    `sequence_mean`, a token weighs the same in a long answer as in a short one; unlike in
    `token_mean`, its weight does not depend on the lengths of other sequences.

    Args:
        values: `[..., T]`, one per token.
        where: `[..., T]` bool, true on the tokens that count.
        length: the divisor in tokens, usually the longest completion allowed by the run.

    Returns:
        The sum over tokens divided by `length`, and the number of sequences that have a token.

    Raises:
        ValueError: `length` is not positive.
    """
    if not length > 0:
        raise ValueError(f"{length=} must be positive")
    values = on_tokens(values, where)
    return Mean(masked_sum(values, where) / length, _sequences(where, values))


def _sequences(where: Array, values: Array) -> Array:
    """The number of sequences with a token that counts, in the dtype of `values`."""
    return jnp.sum(jnp.any(where, axis=-1), dtype=values.dtype)


REDUCTIONS = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "constant_length": constant_length,
}
"""The reductions by their name in a configuration; `constant_length` also needs its length."""
