r"""Variance of the gradient estimate by baseline, with exact gradients of a tiny decoder.

    python experiments/gradient_variance.py     # two minutes; writes results/gradient_variance.md

Claim under test: the baseline of `oblr_po`, a mean of rewards counted by squared gradient norms,
has the least variance (OBLR-PO, arXiv 2511.23310); `opo` (arXiv 2505.23585) takes lengths for the
norms, and `optimal_token_baseline` has a baseline for each position, by the proxy of the norms that
a run computes.

Model: a decoder of one layer with some 900 random parameters and a vocabulary of six tokens, one of
which ends a completion; at most five tokens, one prompt. All 3,906 completions are enumerated, with
their probabilities and the gradients of their log-probabilities by all parameters, so that the
gradient of the expected reward is known, and the estimate of a group,

$$ \hat g = \frac{1}{G} \sum_i A_i \nabla \log \pi(y_i), $$

is that of a loss that sums over tokens. Three rewards, each 0 or 1:

    likely   the log-probability per token is above the median of all completions
    brief    at most three tokens: mostly earned by completions with short gradients
    parity   the sum of the tokens is even: nearly independent of the gradient

Measures. The *variance* is the trace of the covariance of the estimate. A baseline that includes
the completion's own reward, as in `opo`, makes the estimate smaller (by the factor 1 - 1/G for
equal weights) and with it the variance, without being better; so the *error* is the mean squared
distance from the gradient after the best rescaling of the estimate, in units of what it explains:

$$ \frac{E|\hat g|^2\, |g|^2}{(E\hat g \cdot g)^2} - 1, $$

for an unbiased estimate its variance divided by the squared norm of the gradient. All methods see
the same groups. Intervals of quotients of two methods are 95 % by a jackknife over 64 blocks.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from dvaojax import aggregators, files, models
from dvaojax.models import ModelConfig

MODEL = ModelConfig(
    vocab_size=7, width=8, num_layers=1, num_heads=1, num_kv_heads=1, head_width=8, ff_width=24
)
STOP, START, LENGTH = 0, 6, 5  # START is never sampled
SIZES = (4, 16, 64)
REWARDS = ("likely", "brief", "parity")
METHODS = ("rloo", "opo", "oblr_po", "oblr_po, proxy", "optimal_token_baseline")
BLOCKS = 64


class Enumerated(NamedTuple):
    """All completions of the policy.

    Attributes:
        probabilities: `[M]`.
        gradients: `[M, T, N]`, of the log-probability of each token by all parameters.
        proxies: `[M, T]`, squared norms of the gradients by the logits; 0 after the end.
        lengths: `[M]`, in tokens.
        rewards: `[M, R]`, of `REWARDS`.
    """

    probabilities: Array
    gradients: Array
    proxies: Array
    lengths: Array
    rewards: Array


def completions() -> np.ndarray:
    """`[M, T]` tokens of all completions; after a stop token there are only stop tokens."""
    tokens = np.array(list(np.ndindex(*[START] * LENGTH)))
    ended = np.cumsum(tokens == STOP, axis=1) > 0
    return np.unique(np.where(ended, STOP, tokens), axis=0)


def enumerate_policy() -> Enumerated:
    """The completions of a random decoder, with larger matrices to prefer some tokens."""
    params = jax.tree.map(lambda p: 1.6 * p, models.init(MODEL, jax.random.key(0)))
    flat, unravel = ravel_pytree(params)
    tokens = jnp.asarray(completions(), jnp.int32)
    is_stop = (tokens == STOP).astype(jnp.int32)
    where = jnp.cumsum(is_stop, axis=1) - is_stop == 0  # the first stop token included

    def logprobs(flat: Array, tokens: Array) -> Array:
        inputs = jnp.concatenate([jnp.full(1, START, tokens.dtype), tokens[:-1]])[None]
        decoder = models.apply(MODEL, unravel(flat))
        return jax.nn.log_softmax(decoder.logits(decoder.prefill(inputs)[0])[0, :, :START])

    def token_logprobs(flat: Array, tokens: Array, where: Array) -> Array:
        chosen = jnp.take_along_axis(logprobs(flat, tokens), tokens[:, None], axis=1)[:, 0]
        return jnp.where(where, chosen, 0)

    gradients = jax.jit(jax.vmap(jax.jacrev(token_logprobs), (None, 0, 0)))(flat, tokens, where)
    values = jnp.sum(jax.jit(jax.vmap(token_logprobs, (None, 0, 0)))(flat, tokens, where), axis=1)
    each = jnp.exp(jax.jit(jax.vmap(logprobs, (None, 0)))(flat, tokens))
    own = jnp.take_along_axis(each, tokens[..., None], axis=-1)[..., 0]
    energies = 1 - 2 * own + jnp.sum(jnp.square(each), axis=-1)
    lengths = jnp.sum(where, axis=1, dtype=jnp.float32)
    per_token = values / lengths
    earned = (per_token > jnp.median(per_token), lengths <= 3, jnp.sum(tokens, axis=1) % 2 == 0)
    return Enumerated(
        jnp.exp(values),
        gradients,
        jnp.where(where, energies, 0),
        lengths,
        jnp.stack(earned, axis=1).astype(jnp.float32),
    )


def is_token(completions: Enumerated) -> Array:
    """`[..., T]` bool, up to the end of each completion."""
    positions = jnp.arange(LENGTH, dtype=jnp.float32)
    leading = tuple(range(completions.lengths.ndim))
    return jnp.expand_dims(positions, leading) < completions.lengths[..., None]


def advantages(drawn: Enumerated) -> Array:
    """`[methods, rewards, groups, G, T]` of completions `[groups, G]`."""
    norms, one = jnp.sum(jnp.square(jnp.sum(drawn.gradients, axis=-2)), axis=-1), jnp.ones(1)
    proxies, where = drawn.proxies, is_token(drawn)
    methods: tuple[Callable[[Array], Array], ...] = (
        lambda reward: aggregators.rloo(reward, one),
        lambda reward: aggregators.opo(reward, one, drawn.lengths),
        lambda reward: aggregators.oblr_po(reward, one, norms),
        lambda reward: aggregators.oblr_po(reward, one, jnp.sum(proxies, axis=-1)),
        lambda reward: aggregators.optimal_token_baseline(reward, one, proxies, where),
    )
    rewards = [drawn.rewards[..., r : r + 1] for r in range(len(REWARDS))]

    def on_tokens(values: Array) -> Array:
        values = values if values.ndim == where.ndim else values[..., None]
        return jnp.broadcast_to(values, where.shape)

    return jnp.stack([jnp.stack([on_tokens(method(r)) for r in rewards]) for method in methods])


class Sums(NamedTuple):
    """Sums over the groups of each block, for one size of group.

    Attributes:
        estimates: `[blocks, methods, rewards, N]`.
        squares: `[blocks, methods, rewards]`, of their squared norms.
        groups: groups of a block.
    """

    estimates: np.ndarray
    squares: np.ndarray
    groups: int


def measure(policy: Enumerated, size: int, *, groups: int) -> Sums:
    """The sums of all methods in `BLOCKS` blocks of groups of one size."""

    @jax.jit
    def block(key: Array) -> tuple[Array, Array]:
        shape = (groups, size)
        drawn = jax.random.choice(key, len(policy.lengths), shape, p=policy.probabilities)
        in_groups = jax.tree.map(lambda x: x[drawn], policy)
        each = jnp.einsum("mrbgt,bgtn->mrbn", advantages(in_groups), in_groups.gradients) / size
        return jnp.sum(each, axis=2), jnp.sum(jnp.square(each), axis=(2, 3))

    parts = [block(jax.random.fold_in(jax.random.key(size), b)) for b in range(BLOCKS)]
    totals, squares = (
        np.stack([np.asarray(part[i], np.float64) for part in parts]) for i in (0, 1)
    )
    return Sums(totals, squares, groups)


def variance(total: np.ndarray, squares: np.ndarray, groups: int) -> np.ndarray:
    """Trace of the covariance, `[methods, rewards]`."""
    return (squares / groups - np.square(total / groups).sum(-1)) * groups / (groups - 1)


def relative_error(
    total: np.ndarray, squares: np.ndarray, groups: int, *, gradient: np.ndarray
) -> np.ndarray:
    """`E|x|^2 |g|^2 / (E x.g)^2 - 1` of estimates x of the gradient `[rewards, N]`."""
    along = (total / groups * gradient).sum(-1)
    return squares / groups * np.square(gradient).sum(-1) / np.square(along) - 1


def quotients(
    sums: Sums, statistic: Callable[..., np.ndarray], reference: int
) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of all methods over that of one, and half the widths of its 95 % intervals."""

    def quotient(total: np.ndarray, squares: np.ndarray, blocks: int) -> np.ndarray:
        values = statistic(total, squares, sums.groups * blocks)
        return values / values[reference]

    total, squares, blocks = sums.estimates.sum(0), sums.squares.sum(0), len(sums.squares)
    each = zip(sums.estimates, sums.squares, strict=True)
    without = [quotient(total - part, squares - square, blocks - 1) for part, square in each]
    error = np.sqrt((blocks - 1) * np.stack(without).var(0))
    return quotient(total, squares, blocks), 1.96 * error


def limits(policy: Enumerated) -> np.ndarray:
    """Variance per completion in groups without end, `[methods, rewards]`, exactly."""
    probabilities, tokens, proxies, lengths, rewards = (np.asarray(x, float) for x in policy)
    gradients = tokens.sum(1)
    norms = np.square(gradients).sum(1)
    squared_mean = np.square((probabilities[:, None] * rewards).T @ gradients).sum(1)

    def at(weights: np.ndarray) -> np.ndarray:
        counts = (probabilities * weights)[:, None]
        baseline = (counts * rewards).sum(0) / counts.sum()
        return (probabilities * norms) @ np.square(rewards - baseline) - squared_mean

    running = np.cumsum(proxies, axis=1) * np.asarray(is_token(policy)) * probabilities[:, None]
    baselines = running.T @ rewards / running.sum(0)[:, None]  # [T, R]
    each = rewards[..., None] * gradients[:, None] - np.einsum("tr,mtn->mrn", baselines, tokens)
    per_token_variance = probabilities @ np.square(each).sum(-1) - squared_mean
    by_completion = (np.ones_like(norms), lengths, norms, proxies.sum(1))
    return np.stack([*(at(weights) for weights in by_completion), per_token_variance])


def table(policy: Enumerated, results: Mapping[int, Sums]) -> str:
    """Quotients of variances and errors in Markdown."""
    factors = [np.asarray(x, float) for x in (policy.probabilities, policy.rewards)]
    gradients = np.asarray(policy.gradients, float).sum(1)
    gradient = np.einsum("m,mr,mn->rn", *factors, gradients)
    error = partial(relative_error, gradient=gradient)
    columns = [
        ("variance: `opo` / `rloo`", variance, 1, 0),
        ("`oblr_po` / `rloo`", variance, 2, 0),
        ("error: `opo` / `rloo`", error, 1, 0),
        ("`oblr_po` / `rloo`", error, 2, 0),
        ("by the proxy / `rloo`", error, 3, 0),
        ("`oblr_po` / `opo`", error, 2, 1),
        ("by the proxy / `opo`", error, 3, 1),
        ("`optimal_token_baseline` / `rloo`", error, 4, 0),
        ("`optimal_token_baseline` / `opo`", error, 4, 1),
    ]
    lines = [f"| reward | G | {' | '.join(name for name, *_ in columns)} |"]
    lines.append("|---|---|" + "---|" * len(columns))
    endless = limits(policy)
    for r, reward in enumerate(REWARDS):
        for size, sums in results.items():
            cells = []
            for _, statistic, method, reference in columns:
                values, widths = quotients(sums, statistic, reference)
                cells.append(f"{values[method, r]:.3f} ± {widths[method, r]:.3f}")
            lines.append(f"| {reward} | {size} | {' | '.join(cells)} |")
        cells = [f"{endless[m, r] / endless[other, r]:.3f}" for *_, m, other in columns]
        lines.append(f"| {reward} | ∞ | {' | '.join(cells)} |")
    return "\n".join(lines)


HEAD = """# Variance of the gradient estimate

By `python experiments/gradient_variance.py`, whose first lines define the measures: quotients of
two methods with 95 % intervals, below 1 where the first is better. {completions:,} completions for
each size of group.

"""


def main(out: Path, *, completions: int) -> None:
    """Measures all sizes, of `completions` in each block, and writes the table."""
    policy = enumerate_policy()
    results = {size: measure(policy, size, groups=completions // size) for size in SIZES}
    text = HEAD.format(completions=completions * BLOCKS) + table(policy, results) + "\n"
    files.write_text(out / "gradient_variance.md", text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Variance of the gradient estimate by baseline")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--completions", type=int, default=8192, help="of each of 64 blocks")
    arguments = parser.parse_args()
    main(arguments.out, completions=arguments.completions)
