"""Choice of the backend of attention during decoding, by platform and shape."""

import numpy as np
from jax import numpy as jnp

from dvaojax.models.attention import backend
from dvaojax.models.config import ModelConfig

_LANES = 128  # of a TPU's vector registers


def choose(config: ModelConfig, platform: str | None = None) -> str:
    """The backend that attends to the caches.

    "einsum" reads the caches to their end, and every platform has it. The two kernels read of each
    completion what it has filled, and nothing of one that has ended.

    Args:
        config: the decoder's shape; `decode_attention` names the backend, or is "auto".
        platform: "cpu", "gpu" or "tpu"; by default the one that the program is traced for.

    Returns:
        "einsum", "pallas" or "cudnn". "auto" gives "pallas" on a TPU if it supports the shape, and
        "einsum" elsewhere.

    Raises:
        ValueError: the requested backend does not support the platform or the shape.
    """
    platform = platform or backend.platform()
    requested, dtype = config.decode_attention, np.dtype(config.compute_dtype)
    pallas_obstacle = _pallas_obstacle(platform, head_width=config.head_width, dtype=dtype)
    if requested == "auto":
        return "pallas" if platform == "tpu" and pallas_obstacle is None else "einsum"
    obstacle = {
        "einsum": None,
        "pallas": pallas_obstacle,
        "cudnn": backend.cudnn_obstacle(platform, head_width=config.head_width, dtype=dtype),
    }[requested]
    if obstacle is not None:
        raise ValueError(
            f"model.decode_attention={requested!r} does not support {dtype} heads of width "
            f"{config.head_width} on {platform}: {obstacle}; use 'auto' or 'einsum'"
        )
    return requested


def _pallas_obstacle(platform: str, *, head_width: int, dtype: np.dtype) -> str | None:
    """Why the TPU's kernel cannot be used, in the form "it needs ..."; None if it can."""
    if platform not in ("tpu", "cpu"):  # on a CPU it is interpreted
        return "it needs a TPU"
    if head_width % _LANES:
        return f"it needs heads of a multiple of {_LANES}"
    if dtype not in (np.dtype(jnp.bfloat16), np.dtype(np.float32)):
        return "it needs bfloat16 or float32"
    return None


def describe(config: ModelConfig, platform: str) -> str:
    """One line for the log of a run: the backend chosen for a decoder."""
    width = config.head_width
    return f"attention of decoding: {choose(config, platform)} on {platform} (heads of {width})"
