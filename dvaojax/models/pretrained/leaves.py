"""Which tensor of a checkpoint is which of our parameters, and how the two are turned.

The names are those of `transformers`' Qwen2, Qwen3 and Llama, which share them. A PyTorch matrix
has its outputs first; ours has its inputs first, and heads are an axis of their own.
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
class Leaf:
    """One parameter of ours, and its tensors: one, or one a layer.

    Attributes:
        path: its place in the pytree, such as "layers/query".
        shape: of one layer.
        axes: the logical axes of one layer.
        layers: tensors; 0 where the parameter is not stacked.
    """

    path: str
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    layers: int

    @property
    def tensors(self) -> list[str]:
        """Their names, in the order of the layers."""
        return [_TENSORS[self.path].format(i) for i in range(max(self.layers, 1))]

    @property
    def stored_axes(self) -> tuple[str | None, ...]:
        """The logical axes of a tensor: heads and their width are one."""
        if self._is_as_stored:
            return self.axes
        return tuple(axis for axis in self.axes if axis)[::-1] or (None,)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.shape if self._is_as_stored else self._matrix[::-1]

    def from_stored(self, tensor: Array) -> Array:
        """A stored tensor as one layer of the parameter, of the shape `shape`."""
        return tensor if self._is_as_stored else tensor.T.reshape(self.shape)

    def to_stored(self, layer: np.ndarray) -> np.ndarray:
        """One layer of the parameter, of the shape `shape`, as the tensor that is stored."""
        return layer if self._is_as_stored else layer.reshape(self._matrix).T

    @property
    def _is_as_stored(self) -> bool:
        """A table of rows, which is looked up, and not a matrix that multiplies."""
        return self.path == "embedding"

    @property
    def _matrix(self) -> tuple[int, ...]:
        """Our shape with the axes beside the model's width taken together."""
        if "embed" not in self.axes:
            return (math.prod(self.shape),)
        is_input = self.axes[0] == "embed"
        rows = self.shape[:1] if is_input else self.shape[:-1]
        columns = self.shape[1:] if is_input else self.shape[-1:]
        return math.prod(rows), math.prod(columns)


def leaves(config: ModelConfig) -> Any:
    """The pytree of the parameters with a `Leaf` for each."""
    shapes = jax.eval_shape(functools.partial(init, config), jax.random.key(0))

    def described(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> Leaf:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axes = LOGICAL_AXES.get(path[-1].key, (None,) * len(shape.shape))
        if not name.startswith("layers/"):
            return Leaf(name, shape.shape, axes, 0)
        return Leaf(name, shape.shape[1:], axes[1:], shape.shape[0])

    return jax.tree.map_with_path(described, shapes)
