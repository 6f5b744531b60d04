"""The arrays of a checkpoint: a flat mapping from the path of each to the array, and back.

Random keys are stored as integers, and arrays without elements not at all.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from dvaojax.errors import UserError

Tree = TypeVar("Tree")


def by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf of a tree; a path looks like `params/layers/scale`.

    Raises:
        ValueError: two leaves have the same path.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two leaves of the state have the same path: keys must not contain '/'")
    return named


def unwrap(leaf: jax.Array) -> jax.Array:
    """The array to store; random keys are stored as their integer data."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def describe(leaf: Any) -> dict[str, Any]:
    """Shape and dtype of an array, as JSON; for random keys also their implementation."""
    description = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        description["key"] = str(jax.random.key_impl(leaf))
    return description


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _wrap(array: jax.Array, description: Mapping[str, Any]) -> jax.Array:
    """The inverse of `unwrap`."""
    if "key" not in description:
        return array
    return jax.random.wrap_key_data(array, impl=description["key"])


def targets_of(leaves: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Path -> shape, dtype and sharding of the arrays that Orbax restores."""
    return {path: _target(leaf) for path, leaf in leaves.items() if leaf.size}


def filled(
    template: Tree, leaves: Mapping[str, Any], arrays: Mapping[str, Any], saved: Mapping[str, Any]
) -> Tree:
    """The template filled with the arrays that were read.

    Args:
        template: a pytree.
        leaves: its leaves by path.
        arrays: path -> array, without those that are not stored.
        saved: path -> description, see `describe`.
    """
    restored = [
        _wrap(arrays[path], saved[path]) if leaf.size else _empty(leaf)
        for path, leaf in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _empty(leaf: Any) -> jax.Array:
    """An array without elements, which is not stored."""
    return jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and sharding of a stored array, for Orbax."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=sharding)


def check_arrays(name: str, saved: Mapping[str, Any], leaves: Mapping[str, Any]) -> None:
    """Compares a checkpoint with the state that is to be restored.

    Args:
        name: of the checkpoint, for the message.
        saved: path -> description of its arrays, see `describe`.
        leaves: path -> array of the state, or its shape.

    Raises:
        UserError: they differ; the message names the first difference.
    """
    for path in sorted(saved.keys() | leaves.keys()):
        if path not in saved:
            raise UserError(f"{name} lacks {path}, which this run's state has")
        if path not in leaves:
            raise UserError(f"{name} holds {path}, which this run's state does not have")
        actual, expected = saved[path], describe(leaves[path])
        for field in ("shape", "dtype"):
            if actual[field] != expected[field]:
                raise UserError(
                    f"{name} holds {path} with {field} {actual[field]}; this run's state has "
                    f"{expected[field]}"
                )
