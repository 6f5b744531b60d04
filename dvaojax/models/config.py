"""The shape of a decoder, and the families it can be."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import jax

from dvaojax.models.logprobs import CHUNK_SIZE

FLOATS = ("float32", "bfloat16", "float64")

# How training attention is computed; "auto" is by platform and shape (`attention.choice`).
ATTENTION = ("auto", "blocks", "splash")

# What becomes of a layer's body before it is scanned, by the name the configuration gives. A scan
# keeps the recomputation apart from the first computation by itself.
REMAT: Mapping[str, Callable] = {
    "none": lambda body: body,
    "products": partial(
        jax.checkpoint,
        prevent_cse=False,
        policy=jax.checkpoint_policies.save_only_these_names("product"),
    ),
    "layer": partial(jax.checkpoint, prevent_cse=False),
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies slowed down for a longer context, as Llama 3.1 was trained on.

    A frequency that turns often within the original context stays, one that turns seldom is
    divided by `factor`, and what lies between is mixed ("llama3" in config.json). Not YaRN or
    linear interpolation, which Qwen's long contexts use.

    Attributes:
        factor: what the slow frequencies are divided by.
        slow_turns: turns within the original context up to which all of a frequency is slowed;
            `low_freq_factor` in config.json.
        fast_turns: turns from which none of it is; `high_freq_factor` there.
        original_length: tokens of the context before.

    Raises:
        ValueError: a number is not positive, or the two bounds are not in order.
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
    """One decoder: Qwen3 (`qk_norm`), Qwen2 (`attention_bias`) or Llama (neither).

    Attributes:
        vocab_size: `V`.
        width: `D`.
        num_layers: `L`.
        num_heads: `H` query heads.
        num_kv_heads: `N` key/value heads; divides `H`.
        head_width: `C`; even. Not always `D / H`: Qwen3's heads are wider.
        ff_width: `F` of the gated feed-forward.
        rope_theta: base of the rotary embedding's wavelengths.
        rope_scaling: how they are stretched for a longer context; None where they are not.
        norm_epsilon: added to the mean square inside RMSNorm.
        qk_norm: RMSNorm over each query and key head, as in Qwen3.
        attention_bias: biases on the query, key and value projections, as in Qwen2.
        tied_head: the output head is the token embedding.
        param_dtype: float the parameters are kept in.
        compute_dtype: float the products are computed in; float32 on a CPU, bfloat16 elsewhere.
            Norms, softmax, rotary angles and logits are computed in float32 at least.
        remat: what is kept for the backward pass; the rest is computed again. "none" keeps all,
            "products" what the weights' products gave, "layer" the layers' inputs alone.
        attention: how training attention is computed; "splash" is a TPU's kernel, which other
            platforms interpret slowly, and the result is the same.
        logits_chunk: tokens whose logits the update holds at once, over all devices; with a large
            vocabulary and one device this is what a gigabyte goes to.

    Raises:
        ValueError: a size is not positive, sizes do not fit together, or a name is unknown.
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
    attention: str = "auto"
    logits_chunk: int = CHUNK_SIZE

    def __post_init__(self):
        self._check_numbers()
        for name, known in (
            ("param_dtype", FLOATS),
            ("compute_dtype", FLOATS),
            ("remat", REMAT),
            ("attention", ATTENTION),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"model.{name}={value!r} is none of: {', '.join(known)}")

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
            raise ValueError(f"model.head_width={self.head_width} must be even for rotary pairs")
