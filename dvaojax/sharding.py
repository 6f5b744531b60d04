"""Device meshes, and the table that maps logical array axes to mesh axes."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

import jax
from jax import Array, lax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

Function = TypeVar("Function", bound=Callable)

MESH_AXES = ("replica", "data", "fsdp", "tensor")

Rules = Mapping[str, str | tuple[str, ...] | None]

# Logical axis of an array -> mesh axis (or axes) it is split over. Other axes are not split.
RULES: Rules = {
    "group": ("replica", "data", "fsdp"),
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ff": "tensor",
    "vocab": "tensor",
}

# The table used while tokens are sampled. Every decoding step reads every weight, so no weight is
# split over an axis along which it would have to be gathered at every step.
_SPLIT_FURTHER = dict.fromkeys(("heads", "kv_heads", "ff", "vocab"), ("fsdp", "tensor"))
SAMPLER_RULES: Mapping[str, Rules] = {
    "gathered": {**RULES, "embed": None},
    "tensor": {**RULES, "embed": None, "group": ("replica", "data"), **_SPLIT_FURTHER},
}

# The table that `constrain` uses inside `on_mesh`.
_rules: ContextVar[Rules] = ContextVar("_rules", default=RULES)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Number of devices along each mesh axis; -1, for at most one axis, means all remaining ones.

    Attributes:
        data: data parallelism: groups are split over this axis, parameters are replicated.
        fsdp: fully sharded data parallelism: groups and parameters are split over this axis.
        tensor: tensor parallelism: heads, feed-forward width and vocabulary are split over this
            axis.
        replica: groups are split and parameters replicated, as over `data`. On machines with
            several slices this axis spans the slices: gradients are communicated over it, once per
            micro-batch, and the step's statistics, which are small; tokens only if
            `learning.mini_batches` is above 1, and parameters never.
        sampler: layout of the weights while tokens are sampled; they are moved once per rollout.
            "gathered" replicates them over `fsdp`. "tensor" splits them over `fsdp` x `tensor`, for
            weights that would not fit otherwise, and groups over `replica` x `data` only.

    Raises:
        ValueError: the name of the sampler's layout is unknown.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    replica: int = 1
    sampler: Literal["gathered", "tensor"] = "gathered"

    def __post_init__(self):
        if self.sampler not in SAMPLER_RULES:
            known = ", ".join(SAMPLER_RULES)
            raise ValueError(f"mesh.sampler={self.sampler!r} must be one of: {known}")


def resolve_sizes(config: MeshConfig, num_devices: int) -> MeshConfig:
    """Replaces -1 in a mesh configuration by the number of remaining devices.

    Raises:
        ValueError: the product of the sizes is not the number of devices.
    """
    sizes = {
        "replica": config.replica,
        "data": config.data,
        "fsdp": config.fsdp,
        "tensor": config.tensor,
    }
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise ValueError(
            f"mesh {_describe(config)}: sizes must be positive, and -1 may be used once"
        )
    known = math.prod(max(size, 1) for size in sizes.values())
    if num_devices % known or (not open_axes and known != num_devices):
        raise ValueError(f"mesh {_describe(config)} does not fit {num_devices} device(s)")
    return dataclasses.replace(config, **dict.fromkeys(open_axes, num_devices // known))


def _describe(config: MeshConfig) -> str:
    return " x ".join(f"{axis}={getattr(config, axis)}" for axis in MESH_AXES)


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The device mesh of a run.

    Args:
        config: the size of each axis.
        devices: the devices of the mesh; by default all devices of all processes.

    Raises:
        ValueError: the product of the sizes is not the number of devices, or the number of TPU
            slices does not divide `replica`.
    """
    devices = jax.devices() if devices is None else devices
    config = resolve_sizes(config, len(devices))
    sizes = [getattr(config, axis) for axis in MESH_AXES]
    slices = num_slices(devices)
    if slices > 1 and sizes[0] % slices:
        raise ValueError(
            f"mesh {_describe(config)}: {slices} slices do not divide replica={sizes[0]}"
        )
    # Allow a mesh axis to use part of a torus dimension, such as 32 x 2 chips of 4 x 4 x 4.
    if slices == 1:
        device_array = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        within = [sizes[0] // slices, *sizes[1:]]
        between = [slices, *(1 for _ in sizes[1:])]
        device_array = mesh_utils.create_hybrid_device_mesh(
            within, between, devices, allow_split_physical_axes=True
        )
    return Mesh(device_array, MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * len(sizes))


def num_slices(devices: Sequence[Any]) -> int:
    """Number of TPU slices that the devices belong to; 1 for other platforms."""
    if devices[0].platform != "tpu":
        return 1
    # Devices of a description of one slice have no `slice_index`.
    return len({getattr(device, "slice_index", 0) for device in devices})


def named(
    mesh: Mesh | AbstractMesh, *logical_axes: str | None, rules: Rules = RULES
) -> NamedSharding:
    """The sharding of an array whose axes have these logical names."""
    return NamedSharding(mesh, _spec(logical_axes, rules))


def shardings(
    mesh: Mesh | AbstractMesh,
    tree: Any,
    logical_axes: Callable[[tuple[Any, ...], Any], tuple[str | None, ...]],
) -> Any:
    """The sharding of every leaf of `tree`.

    Args:
        mesh: a mesh of devices, or an abstract mesh.
        tree: a pytree of arrays or shapes.
        logical_axes: returns the logical names of a leaf's axes, given its path and the leaf.
    """
    return jax.tree.map_with_path(lambda path, leaf: named(mesh, *logical_axes(path, leaf)), tree)


def on_mesh(mesh: Mesh | AbstractMesh, function: Function, *, rules: Rules = RULES) -> Function:
    """Wraps a function to be jitted so that `constrain` inside it uses this mesh and table."""

    @functools.wraps(function)
    def on_this_mesh(*arguments: Any, **named_arguments: Any) -> Any:
        token = _rules.set(rules)
        try:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*arguments, **named_arguments)
        finally:
            _rules.reset(token)

    return on_this_mesh  # pyright: ignore[reportReturnType]


def constrain(x: Array, *logical_axes: str | None) -> Array:
    """Constrains the sharding of an array, and of its cotangent, by the names of its axes.

    Without it the compiler propagates the sharding of the parameters to the activations, and every
    device computes every group. Has no effect outside `on_mesh`. The array has any shape, and is
    returned with the same values.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return lax.with_sharding_constraint(x, _spec(logical_axes, _rules.get()))


def on_every_device(
    function: Callable[..., Any],
    in_axes: Sequence[Sequence[str | None]],
    out_axes: tuple[Any, ...],
) -> Callable[..., Any]:
    """Maps a function over the devices: each device runs it on its own shard of the arrays.

    For kernels, which the compiler cannot partition. Outside `on_mesh` the function is returned
    unchanged.

    Args:
        function: takes and returns arrays, of which it sees one shard.
        in_axes: the logical names of the axes of each argument.
        out_axes: the logical names of the axes of the result, or of each of several results.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function
    rules = _rules.get()
    several = isinstance(out_axes[0], tuple)
    return jax.shard_map(
        function,
        in_specs=tuple(_spec(axes, rules) for axes in in_axes),
        out_specs=tuple(_spec(a, rules) for a in out_axes) if several else _spec(out_axes, rules),
        check_vma=False,
    )


def map_groups(function: Callable[..., Any]) -> Callable[..., Any]:
    """`vmap` over groups: each device maps the function over its own groups.

    Inside, arrays belong to one group, so that constraints split none of their axes over devices
    that hold groups. Outside `on_mesh` it is `vmap`.

    Args:
        function: takes a pytree of parameters, which is not mapped, and a pytree with one group;
            returns a pytree.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return jax.vmap(function, in_axes=(None, 0))
    rules = _rules.get()
    group_axes = _as_tuple(rules["group"])
    inside = {
        name: tuple(axis for axis in _as_tuple(axes) if axis not in group_axes) or None
        for name, axes in rules.items()
    }

    def one_group(params: Any, group: Any) -> Any:
        token = _rules.set(inside)
        try:
            return function(params, group)
        finally:
            _rules.reset(token)

    return jax.vmap(one_group, in_axes=(None, 0), spmd_axis_name=group_axes)


def num_shards(logical_axis: str) -> int:
    """Number of parts that a logical axis is split into by `constrain`; 1 outside `on_mesh`."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else num_parts(mesh, logical_axis, _rules.get())[1]


def num_parts(
    mesh: Mesh | AbstractMesh, logical_axis: str, rules: Rules = RULES
) -> tuple[str, int]:
    """The names of the mesh axes that a logical axis is split over, and the number of parts."""
    axes = _as_tuple(rules.get(logical_axis))
    return " x ".join(axes), math.prod(mesh.shape[axis] for axis in axes)


def _as_tuple(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Mesh axes of an entry of a table of rules."""
    return (axes,) if isinstance(axes, str) else axes or ()


def _spec(logical_axes: Sequence[str | None], rules: Rules) -> PartitionSpec:
    return PartitionSpec(*(rules.get(axis) if axis else None for axis in logical_axes))
