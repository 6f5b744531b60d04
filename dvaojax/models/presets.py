"""Configurations of published decoders by name, and of a tiny one that fits on any machine.

Shapes are those of each model's `config.json` on the Hugging Face hub. Weights are not included,
see `models.pretrained`.
"""

import dataclasses
from collections.abc import Mapping

from dvaojax.models.config import ModelConfig

_QWEN3 = ModelConfig(
    vocab_size=151_936,
    width=1024,
    num_layers=28,
    num_heads=16,
    num_kv_heads=8,
    head_width=128,
    ff_width=3072,
    param_dtype="float32",
    compute_dtype="bfloat16",
    remat="layer",
)
_QWEN2 = dataclasses.replace(_QWEN3, qk_norm=False, attention_bias=True)
_QWEN2_7B = dataclasses.replace(
    _QWEN2,
    vocab_size=152_064,
    width=3584,
    num_heads=28,
    num_kv_heads=4,
    ff_width=18_944,
    tied_head=False,
)

PRESETS: Mapping[str, ModelConfig] = {
    "tiny": ModelConfig(
        vocab_size=512,
        width=256,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_width=64,
        ff_width=768,
    ),
    "qwen3-0.6b": _QWEN3,
    "qwen3-1.7b": dataclasses.replace(_QWEN3, width=2048, ff_width=6144),
    "qwen3-4b": dataclasses.replace(_QWEN3, width=2560, num_layers=36, num_heads=32, ff_width=9728),
    "qwen3-8b": dataclasses.replace(
        _QWEN3, width=4096, num_layers=36, num_heads=32, ff_width=12_288, tied_head=False
    ),
    "qwen3-32b": dataclasses.replace(
        _QWEN3, width=5120, num_layers=64, num_heads=64, ff_width=25_600, tied_head=False
    ),
    "qwen2.5-1.5b": dataclasses.replace(
        _QWEN2, width=1536, num_heads=12, num_kv_heads=2, ff_width=8960
    ),
    "qwen2.5-3b": dataclasses.replace(
        _QWEN2, width=2048, num_layers=36, num_heads=16, num_kv_heads=2, ff_width=11_008
    ),
    "qwen2.5-7b": _QWEN2_7B,
    "qwen2.5-math-7b": dataclasses.replace(_QWEN2_7B, rope_theta=10_000.0),
}
