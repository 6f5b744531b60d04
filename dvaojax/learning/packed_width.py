"""Micro-batches of groups that are filled alike, each computed no wider than its fullest.

Of packed rows some hold three times as many tokens as others. Sorted by that, those of a
micro-batch differ little, and the padding behind the fullest of them is cut off.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax.numpy as jnp
from jax import Array, lax

from dvaojax.data.packing import packed_widths
from dvaojax.learning.policy_loss import Batch
from dvaojax.models import Params

Result = TypeVar("Result")


def by_fullness(order: Array, packed: Array) -> Array:
    """The groups of every update, the emptiest first.

    Args:
        order: `[updates, micro_batches, prompts]` int, which groups each micro-batch takes.
        packed: `[B, S]`, see `Experience`.

    Returns:
        The same groups of each update, in the same shape.
    """
    of_update = order.reshape(order.shape[0], -1)
    ranks = jnp.argsort(_places(packed)[of_update], axis=1, stable=True)
    return jnp.take_along_axis(of_update, ranks, axis=1).reshape(order.shape)


def cut_to_the_fullest(
    function: Callable[[Params, Batch], Result],
) -> Callable[[Params, Batch], Result]:
    """`function` of rows that are packed, with the padding cut off that none of them needs.

    It is compiled once for each of the widths of `packing.packed_widths`, in one program.
    """

    def on_what_is_filled(params: Params, batch: Batch) -> Result:
        packed = batch.experience.packed
        if packed is None:
            return function(params, batch)

        def with_width(width: int, params: Params, batch: Batch) -> Result:
            cut = batch.experience._replace(packed=packed[:, :width])
            return function(params, batch._replace(experience=cut))

        _, group, length = batch.experience.completion_tokens.shape
        narrower = [width for width in packed_widths(group * length) if width < packed.shape[1]]
        widths = [*narrower, packed.shape[1]]
        fitting = jnp.sum(jnp.max(_places(packed)) > jnp.array(widths))
        return lax.switch(fitting, [partial(with_width, w) for w in widths], params, batch)

    return on_what_is_filled


def _places(packed: Array) -> Array:
    """`[B]`, how many places of each row there are up to its last token."""
    columns = jnp.arange(1, packed.shape[1] + 1)
    return jnp.max(jnp.where(packed >= 0, columns[None], 0), axis=1)
