"""Small checkpoints with random weights, written by `transformers`."""

import logging
from pathlib import Path

import torch
import transformers
from transformers.utils import logging as transformers_logging

transformers_logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)

_SMALL = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

# Various heads, groupings and widths of every family; other settings have the family's default.
SHAPES = {
    "llama grouped tied scaled": (
        "llama",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_theta": 100.0, **LLAMA3_ROPE},
        },
    ),
    "llama one head each": ("llama", {"num_attention_heads": 3, "rms_norm_eps": 1e-2}),
    "llama one key for all": ("llama", {"num_attention_heads": 6, "num_key_value_heads": 1}),
    "qwen2 grouped tied": (
        "qwen2",
        {"num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    "qwen2 wide heads scaled": (
        "qwen2",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "rope_parameters": {"rope_theta": 100.0, **LLAMA3_ROPE},
        },
    ),
    "qwen3 grouped tied": (
        "qwen3",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3 one key for all": (
        "qwen3",
        {
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "head_dim": 2,
            "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
        },
    ),
}
_CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}


def make(name: str, *, dtype: torch.dtype = torch.float32, **changes):
    """A decoder of `transformers` with random weights, norms and biases included."""
    family, shape = SHAPES[name]
    config_class, model_class = _CLASSES[family]
    model = model_class(config_class(**{**_SMALL, **shape, **changes}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for path, weights in model.named_parameters():
            centre = 1.0 if "norm" in path else 0.0
            weights.copy_(centre + 0.3 * torch.randn(weights.shape, generator=generator))
    return model.to(dtype).eval()


def save(model, directory: Path, *, max_shard_size: str = "5GB") -> str:
    """Saves a checkpoint with `transformers`; returns the path."""
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    return str(directory)


def logits_of_completions(model, groups):
    """`[B, G, T, V]`, computed by a decoder of `transformers` with padding on the left."""
    prompts, lengths, completions = groups
    longest = max(lengths) + completions.shape[2]
    rows = []
    for prompt, length, group in zip(prompts, lengths, completions, strict=True):
        for completion in group:
            tokens = [*prompt[:length], *completion]
            rows.append([0] * (longest - len(tokens)) + [1 + int(t) for t in tokens])
    tokens = torch.tensor(rows)
    mask = (tokens > 0).long()
    with torch.no_grad():
        scores = model(
            input_ids=(tokens - 1).clamp(min=0),
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        ).logits
    # Each token is predicted by the position before it.
    scores = scores[:, -completions.shape[2] - 1 : -1].float().numpy()
    return scores.reshape(*completions.shape, -1)
