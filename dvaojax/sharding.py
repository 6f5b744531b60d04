"""One table from logical axes to mesh axes, and the meshes it is read on."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax import Array, lax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

Function = TypeVar("Function", bound=Callable)

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis of an array -> mesh axis (or axes) it is split over. What is not named is whole.
RULES = {
    "group": ("data", "fsdp"),
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ff": "tensor",
    "vocab": "tensor",
}


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices each mesh axis has; -1, for one axis at most, takes what is left.

    Attributes:
        data: groups are split over it; parameters are copied.
        fsdp: groups and parameters are split over it.
        tensor: heads, feed-forward width and vocabulary are split over it.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of a run.

    Args:
        config: the size of each axis.
        devices: the devices to lay out; all of them by default.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    written = " x ".join(f"{a}={s}" for a, s in zip(MESH_AXES, sizes, strict=True))
    if sum(s == -1 for s in sizes) > 1 or any(s < 1 and s != -1 for s in sizes):
        raise ValueError(f"mesh {written}: sizes are positive, and -1 at most once")
    known = math.prod(max(size, 1) for size in sizes)
    if len(devices) % known or (-1 not in sizes and known != len(devices)):
        raise ValueError(f"mesh {written} does not fit {len(devices)} device(s)")
    sizes = [len(devices) // known if s == -1 else s for s in sizes]
    axis_types = (jax.sharding.AxisType.Auto,) * len(sizes)
    return jax.make_mesh(sizes, MESH_AXES, axis_types=axis_types, devices=devices)


def named(mesh: Mesh | AbstractMesh, *logical_axes: str | None) -> NamedSharding:
    """The sharding of an array whose axes carry these logical names."""
    return NamedSharding(mesh, _spec(logical_axes))


def shardings(
    mesh: Mesh | AbstractMesh,
    tree: Any,
    logical_axes: Callable[[tuple[Any, ...], Any], tuple[str | None, ...]],
) -> Any:
    """A sharding for every leaf of `tree`.

    Args:
        mesh: the devices, or their numbers alone.
        tree: a pytree of arrays or shapes.
        logical_axes: the names of a leaf's axes, from its path and the leaf.
    """
    return jax.tree.map_with_path(lambda path, leaf: named(mesh, *logical_axes(path, leaf)), tree)


def on_mesh(mesh: Mesh | AbstractMesh, function: Function) -> Function:
    """The function, to be jitted, with every `constrain` in it meant for this mesh."""

    @functools.wraps(function)
    def on_this_mesh(*arguments: Any, **named_arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments, **named_arguments)

    return on_this_mesh  # pyright: ignore[reportReturnType]


def constrain(x: Array, *logical_axes: str | None) -> Array:
    """The same array, laid out by its axes' names; its cotangent too.

    Without it the compiler follows the parameters: their split axes become those of activations,
    and every device computes every group. Inside `on_mesh` alone; elsewhere it does nothing.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return lax.with_sharding_constraint(x, _spec(logical_axes))


def _spec(logical_axes: Sequence[str | None]) -> PartitionSpec:
    return PartitionSpec(*(RULES.get(axis) if axis else None for axis in logical_axes))
