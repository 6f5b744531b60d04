"""Writing of parameters as a checkpoint that `transformers` and vLLM can read."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from dvaojax import files
from dvaojax.models.config import ModelConfig
from dvaojax.models.decoder import Params
from dvaojax.models.pretrained.configuration import CONFIG
from dvaojax.models.pretrained.parameters import ParameterSpec, parameter_specs
from dvaojax.models.pretrained.tensors import TensorToWrite, write_tensors

# The dtypes that can be written.
WRITE_DTYPES = ("float32", "bfloat16")

# Maximal size of a file; large checkpoints are split, so that files can be downloaded separately.
MAX_FILE_BYTES = 5_000_000_000


def write(
    directory: Path,
    params: Params,
    config: ModelConfig,
    description: Mapping[str, Any],
    *,
    dtype: str,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> list[Path]:
    """Writes `config.json` and the weights, one tensor at a time on the host.

    Args:
        directory: an existing directory without either.
        params: the decoder's parameters.
        config: the decoder's shape.
        description: the content of `config.json`, to which the dtype is added.
        dtype: the dtype of the tensors, one of `WRITE_DTYPES`.
        max_file_bytes: weights of more bytes are split into several files.

    Returns:
        The files with weights.
    """
    dtypes = {"torch_dtype": dtype, **({"dtype": dtype} if "dtype" in description else {})}
    files.write_json(directory / CONFIG, {**description, **dtypes})
    tensors = _tensors(params, config, np.dtype(dtype))
    return write_tensors(directory, tensors, max_file_bytes=max_file_bytes)


def _tensors(params: Params, config: ModelConfig, dtype: np.dtype) -> Iterator[TensorToWrite]:
    """All tensors, first those outside the layers, then layer by layer."""
    specs = jax.tree.leaves(parameter_specs(config))
    pairs = list(zip(specs, jax.tree.leaves(params), strict=True))
    for layer in (None, *range(config.num_layers)):
        for spec, values in pairs:
            if (spec.layers == 0) == (layer is None):
                name = spec.tensors[layer or 0]
                make = partial(_to_host, spec, values, layer, dtype)
                yield TensorToWrite(name, dtype, spec.stored_shape, make)


def _to_host(spec: ParameterSpec, values: Array, layer: int | None, dtype: np.dtype) -> np.ndarray:
    """One tensor on the host, in its stored layout."""
    on_host = np.asarray(values if layer is None else values[layer])
    return spec.to_stored(on_host).astype(dtype)
