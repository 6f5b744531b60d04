"""One table from logical axes to mesh axes, and the meshes it is read on."""

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

# Logical axis of an array -> mesh axis (or axes) it is split over. What is not named is whole.
RULES: Rules = {
    "group": ("replica", "data", "fsdp"),
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ff": "tensor",
    "vocab": "tensor",
}

# The same table while tokens are sampled. Every token reads every weight, so none may be split over
# an axis along which it would have to be gathered again each time.
_SPLIT_FURTHER = dict.fromkeys(("heads", "kv_heads", "ff", "vocab"), ("fsdp", "tensor"))
SAMPLER_RULES: Mapping[str, Rules] = {
    "gathered": {**RULES, "embed": None},
    "tensor": {**RULES, "embed": None, "group": ("replica", "data"), **_SPLIT_FURTHER},
}

# The table that `constrain` reads, inside `on_mesh`.
_rules: ContextVar[Rules] = ContextVar("_rules", default=RULES)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices each mesh axis has; -1, for one axis at most, takes what is left.

    Attributes:
        data: groups are split over it; parameters are copied.
        fsdp: groups and parameters are split over it.
        tensor: heads, feed-forward width and vocabulary are split over it.
        replica: groups are split over it and parameters copied, as over `data`; the slices of a
            machine that has several, between which only gradients and batch statistics travel.
        sampler: where the weights lie while tokens are sampled, brought there once a rollout.
            "gathered" copies them over `fsdp`; "tensor" splits them over `fsdp` x `tensor`, for
            weights that would not fit otherwise, and groups over `replica` x `data` alone.

    Raises:
        ValueError: there is no such layout for the sampler.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    replica: int = 1
    sampler: Literal["gathered", "tensor"] = "gathered"

    def __post_init__(self):
        if self.sampler not in SAMPLER_RULES:
            known = ", ".join(SAMPLER_RULES)
            raise ValueError(f"mesh.sampler={self.sampler!r} is none of: {known}")


def of_size(config: MeshConfig, num_devices: int) -> MeshConfig:
    """The same mesh with a number in the place of -1.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.
    """
    sizes = {
        "replica": config.replica,
        "data": config.data,
        "fsdp": config.fsdp,
        "tensor": config.tensor,
    }
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise ValueError(f"mesh {_written(config)}: sizes are positive, and -1 at most once")
    known = math.prod(max(size, 1) for size in sizes.values())
    if num_devices % known or (not open_axes and known != num_devices):
        raise ValueError(f"mesh {_written(config)} does not fit {num_devices} device(s)")
    return dataclasses.replace(config, **dict.fromkeys(open_axes, num_devices // known))


def _written(config: MeshConfig) -> str:
    return " x ".join(f"{axis}={getattr(config, axis)}" for axis in MESH_AXES)


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of a run.

    Args:
        config: the size of each axis.
        devices: the devices to lay out; all of them, of all processes, by default.

    Raises:
        ValueError: the sizes do not multiply to the number of devices, or the slices of a TPU
            machine do not divide `replica`.
    """
    devices = jax.devices() if devices is None else devices
    config = of_size(config, len(devices))
    sizes = [getattr(config, axis) for axis in MESH_AXES]
    slices = num_slices(devices)
    if slices > 1 and sizes[0] % slices:
        raise ValueError(
            f"mesh {_written(config)}: {slices} slices do not divide replica={sizes[0]}"
        )
    # An axis may take a part of a dimension of the torus, such as 32 x 2 chips of 4 x 4 x 4.
    if slices == 1:
        laid_out = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        within = [sizes[0] // slices, *sizes[1:]]
        between = [slices, *(1 for _ in sizes[1:])]
        laid_out = mesh_utils.create_hybrid_device_mesh(
            within, between, devices, allow_split_physical_axes=True
        )
    return Mesh(laid_out, MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * len(sizes))


def num_slices(devices: Sequence[Any]) -> int:
    """TPU slices that the devices belong to; 1 for other machines, whose network is one."""
    if devices[0].platform != "tpu":
        return 1
    # Devices that are only described (`topologies`) are one slice and have no number for it.
    return len({getattr(device, "slice_index", 0) for device in devices})


def named(
    mesh: Mesh | AbstractMesh, *logical_axes: str | None, rules: Rules = RULES
) -> NamedSharding:
    """The sharding of an array whose axes carry these logical names."""
    return NamedSharding(mesh, _spec(logical_axes, rules))


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


def on_mesh(mesh: Mesh | AbstractMesh, function: Function, *, rules: Rules = RULES) -> Function:
    """The function, to be jitted, with every `constrain` in it meant for this mesh and table."""

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
    """The array as it is, of any shape, laid out by its axes' names; its cotangent too.

    Without it the compiler follows the parameters: their split axes become those of activations,
    and every device computes every group. Inside `on_mesh` alone; elsewhere it does nothing.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return lax.with_sharding_constraint(x, _spec(logical_axes, _rules.get()))


def on_every_device(
    function: Callable[..., Array],
    in_axes: Sequence[Sequence[str | None]],
    out_axes: Sequence[str | None],
) -> Callable[..., Array]:
    """The function, run by every device on its own part of the arrays, whose axes carry the names.

    For kernels, which the compiler does not split. Inside `on_mesh` alone; elsewhere it is the
    function itself.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function
    rules = _rules.get()
    return jax.shard_map(
        function,
        in_specs=tuple(_spec(axes, rules) for axes in in_axes),
        out_specs=_spec(out_axes, rules),
        check_vma=False,
    )


def num_parts(mesh: Mesh, logical_axis: str, rules: Rules = RULES) -> tuple[str, int]:
    """The mesh axes that a logical axis is split over, in words, and into how many parts."""
    axes = rules.get(logical_axis) or ()
    axes = (axes,) if isinstance(axes, str) else axes
    return " x ".join(axes), math.prod(mesh.shape[axis] for axis in axes)


def _spec(logical_axes: Sequence[str | None], rules: Rules) -> PartitionSpec:
    return PartitionSpec(*(rules.get(axis) if axis else None for axis in logical_axes))
