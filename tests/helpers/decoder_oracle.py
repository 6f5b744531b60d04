"""Reference decoder in NumPy: the three families in float64, one token and one head at a time.

Also small random models and inputs to compare with it.
"""

import dataclasses
import functools

import jax
import numpy as np

from dvaojax import models
from dvaojax.models import ModelConfig

QWEN3 = ModelConfig(
    vocab_size=23,
    width=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=6,  # wider than width / num_heads, as Qwen3's are
    ff_width=20,
    rope_theta=100.0,
)
FAMILIES = {
    "qwen3": QWEN3,
    "qwen2": dataclasses.replace(QWEN3, qk_norm=False, attention_bias=True, num_kv_heads=1),
    "llama": dataclasses.replace(QWEN3, qk_norm=False, tied_head=False, num_kv_heads=4),
}


def random_params(config, seed=0):
    """Random parameters with the names and shapes of `models.init`, drawn without compilation.

    Scales and biases are random too, so that no parameter is without effect.
    """
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = generator.normal(1.0 if path[-1].key == "scale" else 0.0, 0.3, leaf.shape)
        return np.asarray(noise, leaf.dtype)

    shapes = jax.eval_shape(functools.partial(models.init, config), jax.random.key(0))
    return jax.tree.map_with_path(draw, shapes)


@dataclasses.dataclass
class Groups:
    """Prompts `[B, P]` with their lengths `[B]`, and completions `[B, G, T]`."""

    prompts: np.ndarray
    lengths: np.ndarray
    completions: np.ndarray

    def __iter__(self):
        return iter((self.prompts, self.lengths, self.completions))


def random_groups(config, *, lengths, width, group_size, completion_length, seed=0):
    """Groups of random tokens; padding is random too."""
    generator = np.random.default_rng(seed)
    lengths = np.asarray(lengths, np.int32)
    shapes = ((len(lengths), width), (len(lengths), group_size, completion_length))
    prompts, completions = (
        generator.integers(0, config.vocab_size, shape).astype(np.int32) for shape in shapes
    )
    return Groups(prompts, lengths, completions)


def rms_norm(x, scale, epsilon):
    """RMSNorm of one vector."""
    return x / np.sqrt(sum(v * v for v in x) / len(x) + epsilon) * scale


def rotated(x, position, theta):
    """Rotary embedding: features `i` and `i + C/2` are the parts of a complex number."""
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        z = complex(x[i], x[i + half]) * np.exp(1j * position * theta ** (-2 * i / len(x)))
        out[i], out[i + half] = z.real, z.imag
    return out


def causal_attention(queries, keys, values):
    """Attention of one head, `[S, C]` each, of every query to the keys up to its position."""
    out = np.empty_like(queries)
    for t, query in enumerate(queries):
        scores = np.array([query @ key / np.sqrt(len(query)) for key in keys[: t + 1]])
        weights = np.exp(scores - scores.max())
        out[t] = weights @ values[: t + 1] / weights.sum()
    return out


def heads(x, layer, name, config):
    """`[S, heads, C]`, the projection `name` of the normalised residual stream."""
    out = np.einsum("sd,dhc->shc", x, layer[name])
    if config.attention_bias:
        out = out + layer[f"{name}_bias"]
    if name == "value":
        return out
    for s in range(out.shape[0]):
        for h in range(out.shape[1]):
            if config.qk_norm:
                scale = layer[f"{name}_norm"]["scale"]
                out[s, h] = rms_norm(out[s, h], scale, config.norm_epsilon)
            out[s, h] = rotated(out[s, h], s, config.rope_theta)
    return out


def hidden_states(config, params, tokens):
    """`[S, D]` after the last norm, of one sequence `[S]`."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    epsilon = config.norm_epsilon
    x = params["embedding"][np.asarray(tokens)]
    for index in range(config.num_layers):
        layer = jax.tree.map(lambda a, i=index: a[i], params["layers"])
        y = np.array([rms_norm(row, layer["attention_norm"]["scale"], epsilon) for row in x])
        queries, keys, values = (heads(y, layer, n, config) for n in ("query", "key", "value"))
        for h in range(config.num_heads):
            n = h * config.num_kv_heads // config.num_heads  # its key/value head
            output = causal_attention(queries[:, h], keys[:, n], values[:, n])
            x = x + output @ layer["output"][h]
        y = np.array([rms_norm(row, layer["ff_norm"]["scale"], epsilon) for row in x])
        gate = y @ layer["gate"]
        x = x + (gate / (1.0 + np.exp(-gate)) * (y @ layer["up"])) @ layer["down"]
    return np.array([rms_norm(row, params["norm"]["scale"], epsilon) for row in x])


def logits(config, params, tokens):
    """`[S, V]` of one sequence."""
    matrix = params["embedding"].T if config.tied_head else params["head"]
    return hidden_states(config, params, tokens) @ np.asarray(matrix, np.float64)


def for_completions(function, config, params, groups):
    """`[B, G, T, ...]`, the rows of `function` that predict the tokens of the completions.

    Args:
        function: `hidden_states` or `logits`.
    """
    return np.array(
        [
            [
                function(config, params, [*prompt[:length], *completion])[length - 1 : -1]
                for completion in group
            ]
            for prompt, length, group in zip(*groups, strict=True)
        ]
    )
