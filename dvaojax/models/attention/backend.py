"""Choice of the backend of training attention, by platform and shape.

GPUs use the blockwise backend, like CPUs. With cuDNN, attention to the prompt and to a completion's
own tokens would have to be merged by the logsumexp of each, but JAX returns cuDNN's logsumexp in
the dtype of the queries, which is too coarse in bfloat16, and without a gradient.
"""

import jax
import numpy as np

from dvaojax.models.attention.splash import SplashLayout
from dvaojax.models.config import ATTENTION, ModelConfig


def platform() -> str:
    """The platform that the traced program is compiled for.

    Inside `sharding.on_mesh` it is the platform of the mesh, which may differ from this machine's.
    Otherwise it is JAX's default backend.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def choose(
    requested: str, platform: str, layout: SplashLayout, *, head_width: int, dtype: str | np.dtype
) -> str:
    """The backend to use.

    Args:
        requested: one of `config.ATTENTION`.
        platform: "cpu", "gpu" or "tpu".
        layout: the layout of the rows.
        head_width: `C`.
        dtype: dtype of queries, keys and values.

    Returns:
        "blocks" or "splash". "auto" gives "splash" on a TPU if the kernel supports the shape.

    Raises:
        ValueError: the requested backend is unknown, or does not support the shape.
    """
    if requested not in ATTENTION:
        raise ValueError(f"attention {requested!r} must be one of: {', '.join(ATTENTION)}")
    is_supported = layout.supports(head_width=head_width, dtype=np.dtype(dtype))
    if requested == "splash" and not is_supported:
        raise ValueError(
            f"attention 'splash' does not support {dtype} heads of width {head_width} in rows of "
            f"{layout.row} tokens; use 'auto' or 'blocks'"
        )
    if requested == "auto":
        return "splash" if platform == "tpu" and is_supported else "blocks"
    return requested


def describe(config: ModelConfig, platform: str, layout: SplashLayout) -> str:
    """One line for the log of a run: the backend chosen for a decoder and a layout of rows."""
    name = choose(
        config.attention, platform, layout, head_width=config.head_width, dtype=config.compute_dtype
    )
    row, width = layout.row, config.head_width
    return f"attention: {name} on {platform} (rows of {row} tokens, heads of {width})"
