"""Model FLOPs and memory traffic of a training step, computed from shapes.

Counted are the operations that the model requires: real tokens only, each prompt once per group,
the lower triangle of causal attention, two floating-point operations per multiply-add of a matrix
product. Not counted are operations that an implementation adds (padding, masked scores,
recomputation in the backward pass). So these counts divided by a measured time give model FLOP
utilisation, MFU (Chowdhery et al., arXiv:2204.02311, appendix B).

Not to be confused with: hardware FLOP utilisation, which is raised by such additions.

Norms, softmax, rotary angles, sampling and the optimiser are not matrix products, and are left out.
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
    """Lengths of the sequences of a step, in tokens.

    Attributes:
        prompts: `[B]` int.
        completions: `[B, G]` int, with the stop token; 0 where nothing was sampled.
    """

    prompts: np.ndarray
    completions: np.ndarray

    @property
    def tokens(self) -> int:
        """Number of real tokens: every prompt once, and all completions."""
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
    """Number of parameters; tied embeddings are counted once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(decoder.shapes(config)))


def prefill_flops(config: ModelConfig, lengths: Lengths) -> int:
    """FLOPs of running each prompt once per group, with one row of logits."""
    _check(lengths)
    return _prompt_flops(config, lengths) + _head_flops(config, len(lengths.prompts))


def decode_flops(config: ModelConfig, lengths: Lengths) -> int:
    """FLOPs of decoding the completions after prefill.

    Prefill gives the first token of a completion, and its last token is not run: a completion of
    `n` tokens takes `n - 1` decoding steps.
    """
    _check(lengths)
    steps = _decoding_steps(lengths)
    return _completion_flops(config, lengths) + _head_flops(config, int(steps.sum()))


class ForwardFlops(NamedTuple):
    """FLOPs of the training forward pass by part.

    Attributes:
        weights: of the layers' products with weights.
        attention: of scores and weighted values.
        logits: of the output head.
    """

    weights: int
    attention: int
    logits: int


def forward_parts(config: ModelConfig, lengths: Lengths) -> ForwardFlops:
    """FLOPs of the training forward pass: log-probabilities of all completion tokens."""
    _check(lengths)
    whole = _prompt_flops(config, lengths) + _completion_flops(config, lengths)
    inputs = int(lengths.prompts.sum()) + int(_decoding_steps(lengths).sum())
    weights = _layers_flops(config, tokens=inputs, pairs=0)
    logits = _head_flops(config, int(lengths.completions.sum()))
    return ForwardFlops(weights, whole - weights, logits)


def forward_flops(config: ModelConfig, lengths: Lengths) -> int:
    """Sum of `forward_parts`."""
    return sum(forward_parts(config, lengths))


def train_flops(config: ModelConfig, lengths: Lengths) -> int:
    """FLOPs of the training forward and backward pass.

    Every product is differentiated with respect to both factors, so the backward pass costs two
    forward passes. Recomputation (remat) is not counted.
    """
    return 3 * forward_flops(config, lengths)


def decode_step_bytes(config: ModelConfig, *, cached_tokens: int) -> int:
    """Bytes that a decoding step of all completions must read.

    These are every weight of a matrix product and all cached keys and values, in the compute dtype,
    even if they are stored in a wider one. The embedding is counted only as the output head.

    Args:
        config: the decoder's shape.
        cached_tokens: tokens whose keys and values are read, those of a prompt once per group.
    """
    size = jnp.dtype(config.compute_dtype).itemsize
    keys_and_values = 2 * config.num_layers * config.num_kv_heads * config.head_width
    weights = config.num_layers * _layer_weights(config) + config.width * config.vocab_size
    return size * (weights + cached_tokens * keys_and_values)


def decode_bytes(config: ModelConfig, lengths: Lengths) -> int:
    """Bytes that all decoding steps must read, for the memory-bandwidth limit of the sampler.

    Step `t` reads the weights, the prompts of the groups with unfinished completions, and `t`
    tokens of every unfinished completion.
    """
    _check(lengths)
    steps = _decoding_steps(lengths)
    steps_per_group = steps.max(axis=1, initial=0)
    cached = int(np.sum(lengths.prompts * steps_per_group)) + int(_triangle(steps).sum())
    weights = decode_step_bytes(config, cached_tokens=0)
    per_token = decode_step_bytes(config, cached_tokens=1) - weights
    return int(steps.max(initial=0)) * weights + cached * per_token


def _prompt_flops(config: ModelConfig, lengths: Lengths) -> int:
    """FLOPs of all layers on the prompts."""
    pairs = int(_triangle(lengths.prompts).sum())
    return _layers_flops(config, tokens=int(lengths.prompts.sum()), pairs=pairs)


def _completion_flops(config: ModelConfig, lengths: Lengths) -> int:
    """FLOPs of all layers on the completions without their last tokens, which predict nothing."""
    steps = _decoding_steps(lengths)
    pairs = int(np.sum(lengths.prompts[:, None] * steps)) + int(_triangle(steps).sum())
    return _layers_flops(config, tokens=int(steps.sum()), pairs=pairs)


def _layers_flops(config: ModelConfig, *, tokens: int, pairs: int) -> int:
    """FLOPs of all layers on `tokens` tokens with `pairs` pairs of a query and a visible key."""
    per_pair = 2 * config.num_heads * config.head_width  # the score, and the weighted value
    return 2 * config.num_layers * (tokens * _layer_weights(config) + pairs * per_pair)


def _head_flops(config: ModelConfig, rows: int) -> int:
    return 2 * rows * config.width * config.vocab_size


def _layer_weights(config: ModelConfig) -> int:
    """Number of weights of one layer's matrix products."""
    heads = 2 * config.num_heads + 2 * config.num_kv_heads  # query and output, key and value
    return config.width * (heads * config.head_width + 3 * config.ff_width)


def _decoding_steps(lengths: Lengths) -> np.ndarray:
    """`[B, G]`, the number of tokens of each completion that are run through the layers."""
    return np.maximum(lengths.completions - 1, 0)


def _triangle(count: np.ndarray) -> np.ndarray:
    """Number of pairs of a query and a key that is not after it, among `count` tokens."""
    return count * (count + 1) // 2


def _check(lengths: Lengths) -> None:
    chex.assert_rank([lengths.prompts, lengths.completions], [1, 2])
    chex.assert_equal_shape_prefix([lengths.prompts, lengths.completions], 1)
