"""Micro-batches of the rows that devices hold: every row once, equally many of each device."""

import jax
import jax.numpy as jnp
import numpy as np

from dvaojax import sharding
from dvaojax.learning.micro_batches import own_rows, put_own_back, take_own_rows

ROWS, MICRO_BATCHES = 24, 3


def micro_batches(lengths, *, sort):
    """The micro-batches of `lengths`, and what is put back."""
    by = lengths if sort else None
    rows = own_rows(len(lengths), micro_batches=MICRO_BATCHES, lengths=by)
    pieces = jax.lax.map(lambda index: take_own_rows((lengths, lengths[:, None]), index), rows)
    return rows, pieces[0], put_own_back(pieces[1], rows)[:, 0]


def test_on_one_device_rows_are_consecutive_or_sorted():
    lengths = jnp.asarray(np.random.default_rng(0).permutation(ROWS))
    rows, pieces, back = micro_batches(lengths, sort=False)
    np.testing.assert_array_equal(rows.reshape(-1), np.arange(ROWS))
    np.testing.assert_array_equal(pieces.reshape(-1), lengths)
    np.testing.assert_array_equal(back, lengths)
    _, pieces, back = micro_batches(lengths, sort=True)
    np.testing.assert_array_equal(pieces.reshape(-1), np.arange(ROWS))
    np.testing.assert_array_equal(back, lengths)


def test_every_micro_batch_has_rows_of_every_device():
    mesh = sharding.make_mesh(sharding.MeshConfig(data=4), jax.devices()[:4])
    lengths = np.random.default_rng(0).permutation(ROWS)
    held = jax.device_put(lengths, sharding.named(mesh, "group"))
    for sort in (False, True):
        function = sharding.on_mesh(mesh, lambda x, sort=sort: micro_batches(x, sort=sort))
        _, pieces, back = jax.jit(function)(held)
        by_device = np.asarray(pieces).reshape(MICRO_BATCHES, 4, 2).swapaxes(0, 1).reshape(4, 6)
        expected = lengths.reshape(4, 6)
        np.testing.assert_array_equal(by_device, np.sort(expected) if sort else expected)
        np.testing.assert_array_equal(back, lengths)
