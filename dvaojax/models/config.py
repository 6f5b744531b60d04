"""The shape of a decoder, and the families it can be."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One decoder: Qwen3 (`qk_norm`), Qwen2 (`attention_bias`) or Llama (neither).

    Attributes:
        vocab_size: `V`.
        width: `D`.
        num_layers: `L`.
        num_heads: `H` query heads.
        num_kv_heads: `N` key/value heads; divides `H`.
        head_width: `C`; even.
        ff_width: `F` of the gated feed-forward.
        rope_theta: base of the rotary embedding's wavelengths.
        norm_epsilon: added to the mean square inside RMSNorm.
        qk_norm: RMSNorm over each query and key head, as in Qwen3.
        attention_bias: biases on the query, key and value projections, as in Qwen2.
        tied_head: the output head is the token embedding.
        param_dtype: float the parameters are kept in.
        compute_dtype: float the products are computed in; float32 on a CPU, bfloat16 elsewhere.
        remat: "none" keeps activations for the backward pass, "layer" keeps the layers' inputs
            alone and computes the rest again.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    ff_width: int
    rope_theta: float = 1_000_000.0
    norm_epsilon: float = 1e-6
    qk_norm: bool = True
    attention_bias: bool = False
    tied_head: bool = True
    param_dtype: str = "float32"
    compute_dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"model.num_kv_heads={self.num_kv_heads} must divide num_heads={self.num_heads}"
            )
        if self.head_width % 2:
            raise ValueError(f"model.head_width={self.head_width} must be even for rotary pairs")
        for name in ("param_dtype", "compute_dtype"):
            if getattr(self, name) not in ("float32", "bfloat16", "float64"):
                raise ValueError(f"model.{name}={getattr(self, name)!r} is not a supported float")
        if self.remat not in ("none", "layer"):
            raise ValueError(f"model.remat={self.remat!r} is none of: none, layer")
