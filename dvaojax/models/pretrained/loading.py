"""Loading of a checkpoint's tensors into parameters, directly into their shards.

Tensors are read one at a time. Every process reads an equal number of rows for each of its devices,
so that all processes together read a file once. The devices then exchange, transpose and cast them.
Stacked layers are filled one by one in place, so memory never contains more than the parameters and
one tensor.
"""

import math
from collections.abc import Collection, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from dvaojax import sharding
from dvaojax.errors import UserError, nearest
from dvaojax.models.config import ModelConfig
from dvaojax.models.decoder import Params
from dvaojax.models.pretrained import configuration
from dvaojax.models.pretrained.parameters import (
    EMBEDDING,
    HEAD,
    ParameterSpec,
    parameter_specs,
)
from dvaojax.models.pretrained.tensors import StoredTensor, read_headers

# Suffix of constants that older checkpoints contain in addition to the weights.
_NOT_WEIGHTS = "rotary_emb.inv_freq"

_ROWS = 4096  # rows of a matrix that are compared at a time
_FEW_ROWS = 64  # rows whose copy fits a processor's cache


def check(path: str, config: ModelConfig) -> None:
    """Checks the headers of a checkpoint against a configuration, without reading the weights.

    Args:
        path: a directory, `gs://bucket/path`, or a repository of the hub, which is downloaded.
        config: the decoder that the weights are for.

    Raises:
        UserError: as in `load`, except for values that are not finite.
    """
    _open(path, config)


def load(path: str, config: ModelConfig, *, mesh: Mesh) -> Params:
    """Loads the weights of a published model as parameters.

    Args:
        path: a directory, `gs://bucket/path`, or a repository of the hub, `owner/name`.
        config: the decoder, see `configuration.model_config`; the parameters are cast to its
            `param_dtype`.
        mesh: the devices, over which parameters are split by `decoder.logical_axes`.

    Raises:
        UserError: the checkpoint is of another decoder, or a tensor is missing, truncated,
            unexpected or of a wrong shape, or has values that are not finite; the message names it.
    """
    stored = _open(path, config)
    faulty: set[str] = set()
    load_parameter = partial(
        _load_parameter, stored=stored, config=config, mesh=mesh, faulty=faulty
    )
    params = jax.tree.map(load_parameter, parameter_specs(config))
    _check_finite(faulty, stored)
    return params


def _load_parameter(
    spec: ParameterSpec,
    *,
    stored: Mapping[str, StoredTensor],
    config: ModelConfig,
    mesh: Mesh,
    faulty: set[str],
) -> Array:
    """Loads one parameter of the decoder; adds the tensors that are not finite to `faulty`."""
    target = sharding.named(mesh, *(["layer"] * (spec.layers > 0)), *spec.axes)
    tensors = (_to_devices(stored[name], spec, mesh, faulty) for name in spec.tensors)
    if spec.layers == 0:
        convert = jax.jit(partial(_converted, spec, mesh, config.param_dtype), out_shardings=target)
        return convert(next(tensors)).block_until_ready()

    @partial(jax.jit, donate_argnums=0, out_shardings=target)
    def fill(stack: Array, tensor: Array, layer: Array) -> Array:
        converted = _converted(spec, mesh, stack.dtype, tensor)
        return lax.dynamic_update_index_in_dim(stack, converted, layer, 0)

    stack = jnp.zeros((spec.layers, *spec.shape), config.param_dtype, device=target)
    for layer in range(spec.layers):
        # Block, so that the next tensor is read only after this one is freed.
        stack = fill(stack, next(tensors), np.int32(layer)).block_until_ready()
    return stack


def _converted(spec: ParameterSpec, mesh: Mesh, dtype: DTypeLike, tensor: Array) -> Array:
    """One layer of a parameter, from a stored tensor that is split by rows."""
    # In two steps, each of which is one exchange; XLA would else replicate the whole tensor.
    axes = [axis for axis in _reading_axes(spec, mesh) if axis in _splitting_axes(spec, mesh)]
    rows = NamedSharding(mesh, PartitionSpec(tuple(axes)))
    as_stored = lax.with_sharding_constraint(
        lax.with_sharding_constraint(tensor, rows), sharding.named(mesh, *spec.stored_axes)
    )
    return spec.from_stored(as_stored).astype(dtype)


def _to_devices(tensor: StoredTensor, spec: ParameterSpec, mesh: Mesh, faulty: set[str]) -> Array:
    """A tensor on the devices, in its stored dtype and shape, split by rows.

    Its name is added to `faulty` if a row on a device of this process is not finite.
    """
    by_rows = NamedSharding(mesh, PartitionSpec(_reading_axes(spec, mesh)))
    indices = by_rows.addressable_devices_indices_map(tensor.shape)
    rows = {
        device: (index or (slice(None),))[0].indices(tensor.shape[0])[:2]
        for device, index in indices.items()
    }
    blocks = {part: tensor.rows(*part) for part in set(rows.values())}
    if not all(_is_finite(block) for block in blocks.values()):
        faulty.add(tensor.name)
    # Copy, because a mapped file may change after it was read.
    copies = [jax.device_put(blocks[rows[d]], d, may_alias=False) for d in rows]
    return jax.make_array_from_single_device_arrays(tensor.shape, by_rows, copies)


def _reading_axes(spec: ParameterSpec, mesh: Mesh) -> tuple[str, ...]:
    """Mesh axes over which rows are split for reading: as many as divide their number.

    The axes that split the parameter's rows are first, then those of its columns, so that devices
    exchange no more than they need.
    """
    split = _splitting_axes(spec, mesh)
    axes = [*split, *(axis for axis in mesh.axis_names if axis not in split)]
    while spec.stored_shape[0] % math.prod(mesh.shape[axis] for axis in axes):
        axes.pop()
    return tuple(axes)


def _splitting_axes(spec: ParameterSpec, mesh: Mesh) -> list[str]:
    """Mesh axes that split a stored tensor, those of its first axis first."""
    split = sharding.named(mesh, *spec.stored_axes).spec
    return [axis for axes in split if axes for axis in ([axes] if isinstance(axes, str) else axes)]


def _is_finite(block: np.ndarray) -> bool:
    """Whether no value is NaN or infinite: whether no exponent has all bits set.

    NumPy has no fast `isfinite` for half precision.
    """
    unsigned = np.dtype(f"u{block.itemsize}")
    infinity = np.array(np.inf, block.dtype).view(unsigned) << 1  # without the sign
    bits = block.view(unsigned)
    rows = (bits[i : i + _FEW_ROWS] for i in range(0, len(bits), _FEW_ROWS))
    return all(bool((some << 1).max() < infinity) for some in rows)


def _check_finite(faulty: Collection[str], stored: Mapping[str, StoredTensor]) -> None:
    """Raises an error about the first faulty tensor that any process found, in every process."""
    names = sorted(stored)
    mine = np.array([name in faulty for name in names])
    by_process = np.reshape(multihost_utils.process_allgather(mine), (-1, len(names)))
    for index, name in enumerate(names):
        if by_process[:, index].any():
            raise UserError(
                f"{stored[name].file.path}: {name} has values that are not finite (NaN or infinite)"
            )


def _open(path: str, config: ModelConfig) -> Mapping[str, StoredTensor]:
    """The tensors of a checkpoint, after checking their names and shapes."""
    configuration.check_agreement(config, configuration.read_description(path), path)
    stored = read_headers(path)
    specs: list[ParameterSpec] = jax.tree.leaves(parameter_specs(config))
    expected = {name: spec.stored_shape for spec in specs for name in spec.tensors}
    for name, shape in expected.items():
        if name not in stored:
            raise UserError(f"{path} lacks the tensor {name} of shape {[*shape]}")
        if stored[name].shape != shape:
            raise UserError(f"{path}: {name} has shape {[*stored[name].shape]}, not {[*shape]}")
    for name in stored.keys() - expected.keys():
        if name == HEAD:
            _check_tie(path, stored)
        elif not name.endswith(_NOT_WEIGHTS):
            raise UserError(
                f"{path} contains the tensor {name}, which does not belong to a decoder with its "
                f"{configuration.CONFIG}; the most similar expected name is "
                f"{nearest(name, expected)}"
            )
    return stored


def _check_tie(path: str, stored: Mapping[str, StoredTensor]) -> None:
    """Raises an error if a tied head is stored and differs from the embedding."""
    head, embedding = stored[HEAD], stored[EMBEDDING]
    same = head.shape == embedding.shape and all(
        np.array_equal(head.rows(i, j), embedding.rows(i, j))
        for i in range(0, head.shape[0], _ROWS)
        for j in [min(i + _ROWS, head.shape[0])]
    )
    if not same:
        raise UserError(f"{path}: tie_word_embeddings is true, but {HEAD} differs from {EMBEDDING}")
