"""Configuration of a decoder: Qwen3, Qwen2 or Llama, its shape and how it is computed."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

FLOATS = ("float32", "bfloat16", "float64")

# Backends of training attention; "auto" selects by platform and shape (see `attention.backend`).
ATTENTION = ("auto", "blocks", "splash", "cudnn")

# How the backward pass of the log-probabilities gets the softmax; see `logprobs.token_logprobs`.
LOGITS_BACKWARD = ("recompute", "keep")

# Backends of attention while tokens are decoded (see `attention.decode_backend`).
DECODE_ATTENTION = ("auto", "einsum", "pallas", "cudnn")

# Default of `ModelConfig.logits_chunk` and of `logprobs.token_logprobs`.
CHUNK_SIZE = 4096

# Policies of `ModelConfig.remat` by name: the names, given by `checkpoint_name`, of the activations
# of a layer that are kept for the backward pass; None keeps all.
REMAT: Mapping[str, tuple[str, ...] | None] = {
    "none": None,
    "products_and_attention": ("product", "attention"),
    "products": ("product",),
    "attention": ("attention",),
    "layer": (),
}

# How the layers of a training pass are compiled; see `ModelConfig.layer_loop`.
LAYER_LOOPS = ("auto", "scan", "unrolled")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies scaled for a longer context, as in Llama 3.1 ("llama3" in config.json).

    High frequencies, which make many turns within the original context, are kept. Low frequencies
    are divided by `factor`. Frequencies in between are interpolated.

    Not to be confused with: YaRN or linear interpolation, which Qwen uses for long contexts.

    Attributes:
        factor: divisor of the low frequencies.
        slow_turns: frequencies with at most this many turns within the original context are divided
            by `factor`; `low_freq_factor` in config.json.
        fast_turns: frequencies with at least this many turns are kept; `high_freq_factor` in
            config.json.
        original_length: tokens of the original context.

    Raises:
        ValueError: a number is not positive, or `slow_turns` is not less than `fast_turns`.
    """

    factor: float
    slow_turns: float
    fast_turns: float
    original_length: int

    def __post_init__(self):
        for name in ("factor", "slow_turns", "original_length"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"model.rope_scaling.{name}={getattr(self, name)} must be positive"
                )
        if not self.slow_turns < self.fast_turns:
            raise ValueError(
                f"model.rope_scaling.slow_turns={self.slow_turns} must be less than "
                f"fast_turns={self.fast_turns}"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder, and how it is computed.

    Qwen3 has `qk_norm`, Qwen2 has `attention_bias`, Llama has neither.

    Attributes:
        vocab_size: `V`, number of tokens of the vocabulary.
        width: `D` of the residual stream.
        num_layers: `L`, number of layers.
        num_heads: `H` query heads.
        num_kv_heads: `N` key/value heads; divides `H`.
        head_width: `C`; even. Not always `D / H`: Qwen3's heads are wider.
        ff_width: `F` of the gated feed-forward.
        rope_theta: base of the rotary embedding's wavelengths.
        rope_scaling: scaling of the rotary frequencies for a longer context, or None.
        norm_epsilon: added to the mean square inside RMSNorm.
        qk_norm: RMSNorm over each query and key head, as in Qwen3.
        attention_bias: biases on the query, key and value projections, as in Qwen2.
        tied_head: the output head is the token embedding.
        param_dtype: dtype of the parameters.
        compute_dtype: dtype of the matrix products; float32 on a CPU, bfloat16 elsewhere. Norms,
            softmax, rotary angles and logits are computed in float32 at least.
        remat: activations kept for the backward pass; the others are recomputed. "none" keeps all,
            "products" the results of the matrix products with weights, "attention" the result and
            statistics of attention, "products_and_attention" both, "layer" only the inputs of the
            layers, which all of them keep.
        layer_loop: how a training pass runs its layers. "scan" compiles one layer. "unrolled"
            compiles each of them, which takes several times as long to compile and saves the copies
            of what a scan keeps for its backward pass. "auto" unrolls on GPUs. Packed rows are
            always scanned: each of their widths is a program.
        attention: backend of training attention, with the same result: "blocks" for every platform,
            "splash" for the TPU kernel (interpreted, and slow, on other platforms), "cudnn" for
            NVIDIA GPUs of the Ampere generation or later in bfloat16, or "auto".
        decode_attention: backend of attention while tokens are decoded: "einsum" for every
            platform, "pallas" for the TPU kernel (interpreted, and slow, on a CPU), "cudnn" for
            NVIDIA GPUs, or "auto", which is "pallas" on TPUs if it supports the heads.
        logits_chunk: number of tokens whose logits the update holds in memory at once on each
            device; with a vocabulary of 150,000 those of 4,096 tokens take 2.3 GiB in float32.
        logits_backward: "recompute" computes logits a second time in the backward pass. "keep"
            keeps their exponentials from the forward pass, which saves a quarter of the products
            with the output matrix but takes one number in the compute dtype per token of a
            micro-batch and entry of the vocabulary; it needs a vocabulary that is not split, so
            `mesh.tensor=1`.

    Raises:
        ValueError: a size is not positive, sizes are inconsistent, or a name is unknown.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    ff_width: int
    rope_theta: float = 1_000_000.0
    rope_scaling: RopeScaling | None = None
    norm_epsilon: float = 1e-6
    qk_norm: bool = True
    attention_bias: bool = False
    tied_head: bool = True
    param_dtype: str = "float32"
    compute_dtype: str = "float32"
    remat: str = "none"
    layer_loop: str = "auto"
    attention: str = "auto"
    decode_attention: str = "auto"
    logits_chunk: int = CHUNK_SIZE
    logits_backward: str = "recompute"

    def __post_init__(self):
        self._check_numbers()
        for name, known in (
            ("param_dtype", FLOATS),
            ("compute_dtype", FLOATS),
            ("remat", REMAT),
            ("layer_loop", LAYER_LOOPS),
            ("attention", ATTENTION),
            ("logits_backward", LOGITS_BACKWARD),
            ("decode_attention", DECODE_ATTENTION),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"model.{name}={value!r} must be one of: {', '.join(known)}")

    def _check_numbers(self):
        for name in (
            "vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "head_width",
            "ff_width", "rope_theta", "norm_epsilon", "logits_chunk",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ValueError(f"model.{name}={getattr(self, name)} must be positive")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"model.num_kv_heads={self.num_kv_heads} must divide num_heads={self.num_heads}"
            )
        if self.head_width % 2:
            raise ValueError(
                f"model.head_width={self.head_width} must be even for the rotary embedding"
            )


def accumulation_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype for sums, norms, softmax and rotary angles of `dtype` values: at least float32."""
    return np.dtype(dtype if jnp.finfo(dtype).bits > 32 else jnp.float32)


def checkpointed(body: Callable, config: ModelConfig, *, is_scanned: bool) -> Callable:
    """A layer's body that keeps for the backward pass what `config.remat` names.

    Args:
        body: the computation of one layer.
        config: the decoder's.
        is_scanned: the body is scanned, which separates the recomputation from the forward pass.
            Otherwise XLA must be prevented from merging the two.
    """
    kept = REMAT[config.remat]
    if kept is None:
        return body
    policy = jax.checkpoint_policies.save_only_these_names(*kept)
    return jax.checkpoint(body, prevent_cse=not is_scanned, policy=policy)
