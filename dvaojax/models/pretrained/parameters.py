"""Names and shapes of the tensors of a checkpoint that correspond to our parameters.

The names are those of `transformers`' Qwen2, Qwen3 and Llama, which share them. PyTorch stores a
matrix as outputs by inputs; ours is inputs by outputs, with a separate axis for heads.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np
from jax import Array

from dvaojax.models.config import ModelConfig
from dvaojax.models.decoder import LOGICAL_AXES, init

_TENSORS = {
    "embedding": "model.embed_tokens.weight",
    "head": "lm_head.weight",
    "norm/scale": "model.norm.weight",
    "layers/attention_norm/scale": "model.layers.{}.input_layernorm.weight",
    "layers/query": "model.layers.{}.self_attn.q_proj.weight",
    "layers/key": "model.layers.{}.self_attn.k_proj.weight",
    "layers/value": "model.layers.{}.self_attn.v_proj.weight",
    "layers/output": "model.layers.{}.self_attn.o_proj.weight",
    "layers/query_bias": "model.layers.{}.self_attn.q_proj.bias",
    "layers/key_bias": "model.layers.{}.self_attn.k_proj.bias",
    "layers/value_bias": "model.layers.{}.self_attn.v_proj.bias",
    "layers/query_norm/scale": "model.layers.{}.self_attn.q_norm.weight",
    "layers/key_norm/scale": "model.layers.{}.self_attn.k_norm.weight",
    "layers/ff_norm/scale": "model.layers.{}.post_attention_layernorm.weight",
    "layers/gate": "model.layers.{}.mlp.gate_proj.weight",
    "layers/up": "model.layers.{}.mlp.up_proj.weight",
    "layers/down": "model.layers.{}.mlp.down_proj.weight",
}

HEAD = _TENSORS["head"]
EMBEDDING = _TENSORS["embedding"]


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """One of our parameters and its tensors: one tensor, or one per layer.

    Attributes:
        path: path in the pytree, such as "layers/query".
        shape: the shape of one layer.
        axes: the logical axes of one layer.
        layers: number of layers; 0 if the parameter is not stacked.
    """

    path: str
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    layers: int

    @property
    def tensors(self) -> list[str]:
        """The names of the tensors, in the order of the layers."""
        return [_TENSORS[self.path].format(i) for i in range(max(self.layers, 1))]

    @property
    def stored_axes(self) -> tuple[str | None, ...]:
        """The logical axes of a tensor, in which heads and head width are one axis."""
        if self._is_as_stored:
            return self.axes
        return tuple(axis for axis in self.axes if axis)[::-1] or (None,)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.shape if self._is_as_stored else self._matrix_shape[::-1]

    def from_stored(self, tensor: Array) -> Array:
        """Converts a stored tensor to one layer of the parameter, with shape `shape`."""
        return tensor if self._is_as_stored else tensor.T.reshape(self.shape)

    def to_stored(self, layer: np.ndarray) -> np.ndarray:
        """Converts one layer of the parameter, with shape `shape`, to a stored tensor."""
        return layer if self._is_as_stored else layer.reshape(self._matrix_shape).T

    @property
    def _is_as_stored(self) -> bool:
        """Whether the parameter is stored untransposed: the embedding, which is a table of rows."""
        return self.path == "embedding"

    @property
    def _matrix_shape(self) -> tuple[int, ...]:
        """Our shape as a matrix: the axes other than the model's width are merged."""
        if "embed" not in self.axes:
            return (math.prod(self.shape),)
        is_input = self.axes[0] == "embed"
        rows = self.shape[:1] if is_input else self.shape[:-1]
        columns = self.shape[1:] if is_input else self.shape[-1:]
        return math.prod(rows), math.prod(columns)


def parameter_specs(config: ModelConfig) -> Any:
    """A pytree like the parameters, with a `ParameterSpec` for each."""
    shapes = jax.eval_shape(functools.partial(init, config), jax.random.key(0))

    def spec(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> ParameterSpec:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axes = LOGICAL_AXES.get(path[-1].key, (None,) * len(shape.shape))
        if not name.startswith("layers/"):
            return ParameterSpec(name, shape.shape, axes, 0)
        return ParameterSpec(name, shape.shape[1:], axes[1:], shape.shape[0])

    return jax.tree.map_with_path(spec, shapes)
