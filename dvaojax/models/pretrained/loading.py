"""Loading of a checkpoint's tensors into parameters, directly into their shards.

Tensors are read one at a time. Every process reads the blocks of its own devices, which then
transpose and cast them. Stacked layers are filled one by one in place, so memory never contains
more than the parameters and one tensor.
"""

from collections.abc import Collection, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from dvaojax import hub, sharding
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
        path: a directory, or a repository of the hub, which is downloaded.
        config: the decoder that the weights are for.

    Raises:
        UserError: as in `load`, except for values that are not finite.
    """
    _open(path, config)


def load(path: str, config: ModelConfig, *, mesh: Mesh) -> Params:
    """Loads the weights of a published model as parameters.

    Args:
        path: a directory, or a repository of the hub, `owner/name`.
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
        convert = jax.jit(
            lambda x: spec.from_stored(x).astype(config.param_dtype), out_shardings=target
        )
        return convert(next(tensors)).block_until_ready()

    @partial(jax.jit, donate_argnums=0, out_shardings=target)
    def fill(stack: Array, tensor: Array, layer: Array) -> Array:
        converted = spec.from_stored(tensor).astype(stack.dtype)
        return lax.dynamic_update_index_in_dim(stack, converted, layer, 0)

    stack = jnp.zeros((spec.layers, *spec.shape), config.param_dtype, device=target)
    for layer in range(spec.layers):
        # Block, so that the next tensor is read only after this one is freed.
        stack = fill(stack, next(tensors), np.int32(layer)).block_until_ready()
    return stack


def _to_devices(tensor: StoredTensor, spec: ParameterSpec, mesh: Mesh, faulty: set[str]) -> Array:
    """A tensor on the devices, in its stored dtype and shape.

    Its name is added to `faulty` if a block on a device of this process is not finite.
    """
    target = sharding.named(mesh, *spec.stored_axes)
    indices = target.addressable_devices_indices_map(tensor.shape)
    mapped = tensor.mapped()
    different = {str(index): index or () for index in indices.values()}
    if not all(_is_finite(mapped[index]) for index in different.values()):
        faulty.add(tensor.name)
    # Copy, because the file may change after it was read.
    blocks = [
        jax.device_put(mapped[index or ()], device, may_alias=False)
        for device, index in indices.items()
    ]
    return jax.make_array_from_single_device_arrays(tensor.shape, target, blocks)


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
                f"{stored[name].path}: {name} has values that are not finite (NaN or infinite)"
            )


def _open(path: str, config: ModelConfig) -> Mapping[str, StoredTensor]:
    """The tensors of a checkpoint, after checking their names and shapes."""
    configuration.check_agreement(config, configuration.read_description(path), path)
    stored = read_headers(hub.local_directory(path, hub.WEIGHT_FILES))
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
        np.array_equal(head.mapped()[i : i + _ROWS], embedding.mapped()[i : i + _ROWS])
        for i in range(0, head.shape[0], _ROWS)
    )
    if not same:
        raise UserError(f"{path}: tie_word_embeddings is true, but {HEAD} differs from {EMBEDDING}")
