"""Conversion between `config.json` of Qwen2, Qwen3 and Llama and `ModelConfig`.

All spellings in use are read: rotary settings as `rope_theta` and `rope_scaling` or, since
transformers 5, as `rope_parameters`. Settings that the decoder does not support raise an error.
"""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from dvaojax import files, hub
from dvaojax.errors import UserError
from dvaojax.models.config import ModelConfig, RopeScaling

CONFIG = "config.json"

# The fields that a checkpoint determines; the others are about how the decoder is computed.
CHECKPOINT_FIELDS = (
    "vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "head_width", "ff_width",
    "rope_theta", "rope_scaling", "norm_epsilon", "qk_norm", "attention_bias", "tied_head",
)  # fmt: skip

_SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "ff_width": "intermediate_size",
}

# Limits far above any decoder; without them a damaged file would exhaust the memory.
_LARGEST, _MOST_LAYERS = 10_000_000, 10_000

_ROPE = {
    "factor": "factor",
    "slow_turns": "low_freq_factor",
    "fast_turns": "high_freq_factor",
    "original_length": "original_max_position_embeddings",
}


@dataclasses.dataclass(frozen=True)
class _Family:
    """Settings of a family of decoders that are not in `config.json`.

    Attributes:
        architecture: its class in `transformers`.
        qk_norm: see `ModelConfig`.
        attention_bias: see `ModelConfig`.
        head_width: default of `head_dim`; None means the width divided by the number of heads.
    """

    architecture: str
    qk_norm: bool
    attention_bias: bool
    head_width: int | None = None


_FAMILIES = {
    "qwen2": _Family("Qwen2ForCausalLM", qk_norm=False, attention_bias=True),
    "qwen3": _Family("Qwen3ForCausalLM", qk_norm=True, attention_bias=False, head_width=128),
    "llama": _Family("LlamaForCausalLM", qk_norm=False, attention_bias=False),
}


def model_config(
    path: str,
    *,
    param_dtype: str = "float32",
    compute_dtype: str = "bfloat16",
    remat: str = "layer",
) -> ModelConfig:
    """The configuration of a published decoder, for an experiment file.

    Args:
        path: a directory with a `config.json`, `gs://bucket/path`, or a repository of the hub,
            `owner/name`, see `hub`.
        param_dtype: see `ModelConfig`; this default and the next two are those of the presets.
        compute_dtype: see `ModelConfig`.
        remat: see `ModelConfig`.

    Raises:
        UserError: there is no `config.json`, or it has settings that the decoder does not support.
    """
    config = parse_description(read_description(path), path)
    return dataclasses.replace(
        config, param_dtype=param_dtype, compute_dtype=compute_dtype, remat=remat
    )


def read_description(path: str) -> dict[str, Any]:
    """The content of a model's `config.json`.

    Raises:
        UserError: the file cannot be read.
    """
    description = files.read_json(hub.local_directory(path, (CONFIG,)) / CONFIG)
    if not isinstance(description, dict):
        raise UserError(f"{path}: {CONFIG} is not a JSON object")
    return description


def parse_description(description: Mapping[str, Any], path: str) -> ModelConfig:
    """The configuration of the decoder of a `config.json`; other fields have their defaults.

    Args:
        description: the content of the file.
        path: the path of the model, for error messages.

    Raises:
        UserError: a key is missing, or the decoder does not support its value.
    """
    where = f"{path}: {CONFIG}"
    family = _family(description, where)
    _reject_unsupported(description, where)
    sizes: dict[str, Any] = {
        ours: _size(description, theirs, where) for ours, theirs in _SIZES.items()
    }
    heads = sizes["num_heads"]
    head_width = family.head_width or sizes["width"] // heads
    sizes["num_kv_heads"] = _size(description, "num_key_value_heads", where, default=heads)
    sizes["head_width"] = _size(description, "head_dim", where, default=head_width)
    theta, scaling = _rope(description, where)
    epsilon = _number(description, "rms_norm_eps", where, default=1e-6)
    tied_head = _flag(description, "tie_word_embeddings", where)
    try:
        return ModelConfig(
            **sizes,
            rope_theta=theta,
            rope_scaling=scaling,
            norm_epsilon=epsilon,
            qk_norm=family.qk_norm,
            attention_bias=family.attention_bias,
            tied_head=tied_head,
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def make_description(config: ModelConfig, path: str) -> dict[str, Any]:
    """The content of `config.json` of a decoder that was not loaded from a published model.

    Args:
        config: the decoder.
        path: the path to be written, for error messages.

    Raises:
        UserError: the decoder does not belong to a supported family.
    """
    flags = (config.qk_norm, config.attention_bias)
    kinds = {(f.qk_norm, f.attention_bias): kind for kind, f in _FAMILIES.items()}
    if flags not in kinds:
        raise UserError(
            f"{path}: no published family has model.qk_norm={config.qk_norm} with "
            f"model.attention_bias={config.attention_bias}; the decoder cannot be exported"
        )
    kind = kinds[flags]
    if kind == "llama" and config.width % config.num_heads:
        raise UserError(
            f"{path}: transformers requires the width of a Llama, {config.width}, to be a multiple "
            f"of its num_heads={config.num_heads}"
        )
    scaling = config.rope_scaling
    scaling_keys = scaling and {theirs: getattr(scaling, ours) for ours, theirs in _ROPE.items()}
    return {
        "architectures": [_FAMILIES[kind].architecture],
        "model_type": kind,
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling_keys and {"rope_type": "llama3", **scaling_keys},
        "tie_word_embeddings": config.tied_head,
    }


def check_agreement(config: ModelConfig, description: Mapping[str, Any], path: str) -> None:
    """Checks a configuration against a `config.json`.

    Raises:
        UserError: they describe different decoders; the message names the first field that differs.
    """
    theirs = parse_description(description, path)
    for name in CHECKPOINT_FIELDS:
        actual, expected = getattr(config, name), getattr(theirs, name)
        if actual != expected:
            raise UserError(
                f"model.{name}={actual}, but {CONFIG} of {path} has {expected}: build the model "
                f"with models.pretrained.model_config({path!r})"
            )


def _shown(value: Any) -> str:
    """A value of the file in an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _family(description: Mapping[str, Any], where: str) -> _Family:
    kind = description.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise UserError(
            f"{where} has model_type={_shown(kind)}; supported are: {', '.join(_FAMILIES)}"
        )
    family = _FAMILIES[kind]
    named = description.get("architectures") or [family.architecture]
    if named != [family.architecture]:
        raise UserError(f"{where} has architectures={_shown(named)}, not [{family.architecture!r}]")
    return family


def _reject_unsupported(description: Mapping[str, Any], where: str) -> None:
    """Raises an error at the first setting that the decoder does not support."""
    for key, supported in (
        ("hidden_act", "silu"),
        ("attention_bias", False),  # would add a bias to the output projection too
        ("mlp_bias", False),
        ("quantization_config", None),
        ("partial_rotary_factor", 1.0),
    ):
        value = description.get(key)
        if value is not None and value != supported:
            raise UserError(
                f"{where} has {key}={_shown(value)}; the decoder supports only {supported!r}"
            )
    kinds = description.get("layer_types") or []
    slides = not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)
    if not kinds and _flag(description, "use_sliding_window", where):
        layers = description.get("max_window_layers")  # that use no window, the first ones
        whole = type(layers) is int and layers >= _size(description, "num_hidden_layers", where)
        slides = bool(description.get("sliding_window")) and not whole
    if slides:
        key = "layer_types" if kinds else "use_sliding_window"
        raise UserError(
            f"{where} has {key}={_shown(description[key])}; the decoder supports only full "
            "attention, without a sliding window"
        )


def _size(
    description: Mapping[str, Any], key: str, where: str, *, default: int | None = None
) -> int:
    value = description.get(key)
    value = default if value is None else value
    if type(value) is not int or value < 1:
        problem = (
            f"has {key}={_shown(value)}, which is not a positive integer"
            if key in description
            else f"lacks {key}"
        )
        raise UserError(f"{where} {problem}")
    limit = _MOST_LAYERS if key == "num_hidden_layers" else _LARGEST
    if value > limit:
        raise UserError(f"{where} has a {key} of more than {limit:,}, which no decoder has")
    return value


def _number(
    description: Mapping[str, Any], key: str, where: str, *, default: float | None = None
) -> float:
    """A positive, finite number."""
    value: Any = description.get(key)
    value = default if value is None else value
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:  # NaN is not
        problem = f"has {key}={_shown(value)}, which is not a positive, finite number"
        raise UserError(f"{where} " + (problem if key in description else f"lacks {key}"))
    return float(value)


def _flag(description: Mapping[str, Any], key: str, where: str) -> bool:
    """A setting that is true or false; false if it is absent."""
    value = description.get(key)
    if not isinstance(value, bool | None):
        raise UserError(f"{where} has {key}={_shown(value)}, which is neither true nor false")
    return bool(value)


def _rope(description: Mapping[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """The base of the rotary wavelengths, and their scaling."""
    key, given = _rope_settings(description, where)
    bases = {
        _number(source, "rope_theta", place)
        for source, place in ((description, where), (given, f"{where}: {key}"))
        if source.get("rope_theta") is not None
    }
    if len(bases) > 1:
        raise UserError(f"{where} has two values of rope_theta, one of them in {key}: keep one")
    theta = bases.pop() if bases else 10_000.0
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise UserError(
            f"{where} has {key} of type {_shown(kind)}; supported are 'default' and 'llama3'"
        )
    length = "original_max_position_embeddings"
    defaults = {length: description.get("max_position_embeddings")}
    numbers = {
        ours: _number({**defaults, **given}, theirs, f"{where}: {key}")
        for ours, theirs in _ROPE.items()
    }
    if not numbers["original_length"].is_integer():
        raise UserError(
            f"{where}: {key} has {length}={numbers['original_length']}, which is not an integer"
        )
    try:
        return theta, RopeScaling(**{**numbers, "original_length": int(numbers["original_length"])})
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _rope_settings(description: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    """The key of the rotary settings, and its value."""
    filled = [key for key in ("rope_scaling", "rope_parameters") if description.get(key)]
    key = filled[0] if filled else "rope_parameters"
    given = description.get(key) or {}
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        raise UserError(
            f"{where} has {key}={_shown(given)}; only one setting for all layers is supported"
        )
    if len(filled) > 1 and description[filled[1]] != given:
        raise UserError(f"{where} has both {' and '.join(filled)}, which differ: keep one")
    if given.get("partial_rotary_factor") not in (None, 1.0):
        raise UserError(
            f"{where} has {key} with partial_rotary_factor; only full rotation is supported"
        )
    return key, given
