"""The arithmetic and the memory traffic of a group's step, counted from shapes alone.

What is counted is what the model asks for: real tokens only, each prompt once per group, causal
attention as the triangle that it is, two floating-point operations per multiply-add of a matrix
product. Nothing that a program adds is counted (padding, masked scores, recomputation in the
backward pass), so that these counts over a measured time give model-FLOP utilisation (Chowdhery
et al., arXiv:2204.02311, appendix B) and not hardware utilisation, which such additions raise.
Norms, softmax, rotary angles, sampling and the optimiser are left out: they are no products.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dvaojax.models import decoder
from dvaojax.models.config import ModelConfig


class Lengths(NamedTuple):
    """How long the sequences of a step are, in tokens.

    Attributes:
        prompts: `[B]` int.
        completions: `[B, G]` int, the stop token included; 0 where nothing was sampled.
    """

    prompts: np.ndarray
    completions: np.ndarray

    @property
    def tokens(self) -> int:
        """Real tokens: every prompt once, and the completions."""
        return int(self.prompts.sum()) + int(self.completions.sum())


def full_lengths(
    *, num_prompts: int, group_size: int, prompt_length: int, completion_length: int
) -> Lengths:
    """Lengths of a step without padding."""
    return Lengths(
        prompts=np.full(num_prompts, prompt_length, np.int64),
        completions=np.full((num_prompts, group_size), completion_length, np.int64),
    )


def num_params(config: ModelConfig) -> int:
    """All parameters, tied embeddings once."""
    shapes = jax.eval_shape(lambda: decoder.init(config, jax.random.key(0)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def prefill_flops(config: ModelConfig, lengths: Lengths) -> int:
    """Products that run the prompts once per group and give one row of logits each."""
    _check(lengths)
    return _prompt_flops(config, lengths) + _head_flops(config, len(lengths.prompts))


def decode_flops(config: ModelConfig, lengths: Lengths) -> int:
    """Products that sample the completions after prefill.

    Prefill has given the first token of a completion, and its last token is never run: a
    completion of `n` tokens takes `n - 1` turns.
    """
    _check(lengths)
    turns = _turns(lengths)
    return _completion_flops(config, lengths) + _head_flops(config, int(turns.sum()))


def forward_flops(config: ModelConfig, lengths: Lengths) -> int:
    """Products of the log-probabilities of all completion tokens, the training forward pass."""
    _check(lengths)
    tokens = int(lengths.completions.sum())
    return (
        _prompt_flops(config, lengths)
        + _completion_flops(config, lengths)
        + _head_flops(config, tokens)
    )


def train_flops(config: ModelConfig, lengths: Lengths) -> int:
    """Products of forward and backward pass.

    Every product is differentiated by both of its factors, so the backward pass is two forward
    passes. What remat computes again is not counted.
    """
    return 3 * forward_flops(config, lengths)


def decode_step_bytes(config: ModelConfig, *, cached_tokens: int) -> int:
    """Bytes that one more token of every completion must read.

    Every weight that enters a product and all cached keys and values, in the compute dtype: what a
    sampler that stores wider numbers could save is not counted. Of the embedding, only as the
    output head is read whole.

    Args:
        config: the decoder's shape.
        cached_tokens: tokens whose keys and values are read, a prompt's once per group.
    """
    size = jnp.dtype(config.compute_dtype).itemsize
    keys_and_values = 2 * config.num_layers * config.num_kv_heads * config.head_width
    weights = config.num_layers * _layer_weights(config) + config.width * config.vocab_size
    return size * (weights + cached_tokens * keys_and_values)


def decode_bytes(config: ModelConfig, lengths: Lengths) -> int:
    """Bytes that all turns of decoding must read, the limit that memory sets to the sampler.

    Turn `t` reads the weights, the prompts of the groups that still sample, and `t` tokens of
    every completion that does.
    """
    _check(lengths)
    turns = _turns(lengths)
    turns_of_groups = turns.max(axis=1, initial=0)
    cached = int(np.sum(lengths.prompts * turns_of_groups)) + int(_triangle(turns).sum())
    nothing = decode_step_bytes(config, cached_tokens=0)
    per_token = decode_step_bytes(config, cached_tokens=1) - nothing
    return int(turns.max(initial=0)) * nothing + cached * per_token


def _prompt_flops(config: ModelConfig, lengths: Lengths) -> int:
    """All layers on the prompts."""
    pairs = int(_triangle(lengths.prompts).sum())
    return _layers_flops(config, tokens=int(lengths.prompts.sum()), pairs=pairs)


def _completion_flops(config: ModelConfig, lengths: Lengths) -> int:
    """All layers on the completions but for their last tokens, which predict nothing."""
    turns = _turns(lengths)
    pairs = int(np.sum(lengths.prompts[:, None] * turns)) + int(_triangle(turns).sum())
    return _layers_flops(config, tokens=int(turns.sum()), pairs=pairs)


def _layers_flops(config: ModelConfig, *, tokens: int, pairs: int) -> int:
    """All layers on so many tokens, whose queries see so many keys in all."""
    of_pairs = 2 * config.num_heads * config.head_width  # scores, and values by their weights
    return 2 * config.num_layers * (tokens * _layer_weights(config) + pairs * of_pairs)


def _head_flops(config: ModelConfig, rows: int) -> int:
    return 2 * rows * config.width * config.vocab_size


def _layer_weights(config: ModelConfig) -> int:
    """Weights of one layer that enter products."""
    heads = 2 * config.num_heads + 2 * config.num_kv_heads  # query and output, key and value
    return config.width * (heads * config.head_width + 3 * config.ff_width)


def _turns(lengths: Lengths) -> np.ndarray:
    """`[B, G]` tokens of each completion that are run through the layers."""
    return np.maximum(lengths.completions - 1, 0)


def _triangle(count: np.ndarray) -> np.ndarray:
    """Pairs of a query and a key not after it, among `count` tokens."""
    return count * (count + 1) // 2


def _check(lengths: Lengths) -> None:
    chex.assert_rank([lengths.prompts, lengths.completions], [1, 2])
    chex.assert_equal_shape_prefix([lengths.prompts, lengths.completions], 1)
