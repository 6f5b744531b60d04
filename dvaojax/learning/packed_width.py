"""Micro-batches of packed rows of similar length, each cut to its longest row.

Some packed rows have three times as many tokens as others. After sorting by length, the rows of a
micro-batch differ little, and the padding after the longest of them is cut off.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax.numpy as jnp
from jax import Array, lax

from dvaojax.data.packing import packed_widths
from dvaojax.learning.policy_loss import PolicyBatch
from dvaojax.models import Params

Output = TypeVar("Output")


def sort_by_packed_length(order: Array, packed: Array) -> Array:
    """The groups of every update sorted by packed length, ascending.

    Args:
        order: `[updates, micro_batches, prompts]` int, the groups of each micro-batch.
        packed: `[B, S]`, see `Experience`.

    Returns:
        The groups of each update in their new order, in the same shape.
    """
    groups = order.reshape(order.shape[0], -1)
    ranks = jnp.argsort(packed_lengths(packed)[groups], axis=1, stable=True)
    return jnp.take_along_axis(groups, ranks, axis=1).reshape(order.shape)


def cut_to_longest_row(
    function: Callable[[Params, PolicyBatch], Output],
) -> Callable[[Params, PolicyBatch], Output]:
    """`function` with packed rows cut to the length of the longest.

    One program contains a branch for each width of `packing.packed_widths`.
    """

    def cut_function(params: Params, batch: PolicyBatch) -> Output:
        packed = batch.experience.packed
        if packed is None:
            return function(params, batch)

        def with_width(width: int, params: Params, batch: PolicyBatch) -> Output:
            cut = batch.experience._replace(packed=packed[:, :width])
            return function(params, batch._replace(experience=cut))

        _, group, length = batch.experience.completion_tokens.shape
        narrower = [width for width in packed_widths(group * length) if width < packed.shape[1]]
        widths = [*narrower, packed.shape[1]]
        smallest_fit = jnp.sum(jnp.max(packed_lengths(packed)) > jnp.array(widths))
        return lax.switch(smallest_fit, [partial(with_width, w) for w in widths], params, batch)

    return cut_function


def packed_lengths(packed: Array) -> Array:
    """`[B]`, the length of each row of `packed` `[B, S]` up to its last token."""
    columns = jnp.arange(1, packed.shape[1] + 1)
    return jnp.max(jnp.where(packed >= 0, columns[None], 0), axis=1)
