"""Choice of the backend of training attention, by platform, device and shape."""

import jax
import numpy as np

from dvaojax.models.attention import fused
from dvaojax.models.attention.splash import SplashLayout
from dvaojax.models.config import ATTENTION, ModelConfig

# Compute capability assumed of a GPU that a program is compiled for and this machine has not.
DESCRIBED_CAPABILITY = (8, 0)


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
        "blocks", "splash" or "cudnn". "auto" gives "splash" on a TPU and "cudnn" on a GPU if their
        kernels support the device and the shape, else "blocks".

    Raises:
        ValueError: the requested backend is unknown, or does not support the device or the shape.
    """
    if requested not in ATTENTION:
        raise ValueError(f"attention {requested!r} must be one of: {', '.join(ATTENTION)}")
    is_supported = layout.supports(head_width=head_width, dtype=np.dtype(dtype))
    if requested == "splash" and not is_supported:
        raise ValueError(
            f"attention 'splash' does not support {dtype} heads of width {head_width} in rows of "
            f"{layout.row} tokens; use 'auto' or 'blocks'"
        )
    obstacle = cudnn_obstacle(platform, head_width=head_width, dtype=dtype)
    if requested == "cudnn" and obstacle is not None:
        raise ValueError(
            f"model.attention='cudnn' cannot be used: {obstacle}; use 'auto' or 'blocks'"
        )
    if requested != "auto":
        return requested
    if platform == "tpu" and is_supported:
        return "splash"
    return "cudnn" if obstacle is None else "blocks"


def describe(config: ModelConfig, platform: str, layout: SplashLayout) -> str:
    """One line for the log of a run: the backend chosen for a decoder and a layout of rows."""
    shape = {"head_width": config.head_width, "dtype": config.compute_dtype}
    name = choose(config.attention, platform, layout, **shape)
    reason = ""
    if platform == "gpu" and name == "blocks" and config.attention == "auto":
        reason = f"; not cudnn: {cudnn_obstacle(platform, **shape)}"
    row, width = layout.row, config.head_width
    return f"attention: {name} on {platform} (rows of {row} tokens, heads of {width}{reason})"


def cudnn_obstacle(platform: str, *, head_width: int, dtype: str | np.dtype) -> str | None:
    """`fused.obstacle` on the first GPU of this machine, or on one that is compiled for."""
    return fused.obstacle(
        platform=platform,
        capability=_capability() if platform == "gpu" else (),
        head_width=head_width,
        dtype=np.dtype(dtype),
    )


def _capability() -> tuple[int, ...]:
    """Compute capability of this machine's first GPU; empty if it is not NVIDIA's."""
    try:
        device = jax.local_devices(backend="gpu")[0]
    except RuntimeError:  # a program compiled for a described device
        return DESCRIBED_CAPABILITY
    parts = str(getattr(device, "compute_capability", "")).split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
