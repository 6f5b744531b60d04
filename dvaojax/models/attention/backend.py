"""Which computation training attention takes, by platform and shape.

On a GPU it is blocks, as on a CPU. cuDNN's attention to the prompt and to a completion's own tokens
would have to be merged by the logarithms of their softmax totals, and what JAX gives out of them is
rounded to the float of the queries, which is too coarse for an exponent in bfloat16, and has no
gradient.
"""

import jax
import numpy as np

from dvaojax.models.attention.splash import Plan
from dvaojax.models.config import ATTENTION, ModelConfig


def platform() -> str:
    """The platform the program being traced is for: that of its mesh (`sharding.on_mesh`).

    It need not be that of this machine. Without a mesh it is.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def chosen(
    wanted: str, platform: str, plan: Plan, *, head_width: int, dtype: str | np.dtype
) -> str:
    """The computation to take.

    Args:
        wanted: one of `config.ATTENTION`.
        platform: "cpu", "gpu" or "tpu".
        plan: how the tokens of a row stand.
        head_width: `C`.
        dtype: float of queries, keys and values.

    Returns:
        "blocks", or "splash" where it is wanted, or where nothing is and the platform is a TPU and
        the kernel takes the shape.

    Raises:
        ValueError: the wanted computation is unknown, or does not take the shape.
    """
    if wanted not in ATTENTION:
        raise ValueError(f"attention {wanted!r} is none of: {', '.join(ATTENTION)}")
    fits = plan.fits(head_width=head_width, dtype=np.dtype(dtype))
    if wanted == "splash" and not fits:
        raise ValueError(
            f"attention 'splash' takes no {dtype} heads of width {head_width} in rows of {plan.row}"
            " tokens; 'auto' takes blocks there"
        )
    if wanted == "auto":
        return "splash" if platform == "tpu" and fits else "blocks"
    return wanted


def description(config: ModelConfig, platform: str, plan: Plan) -> str:
    """What is chosen for a decoder and rows of tokens, as a line for the log of a run."""
    name = chosen(
        config.attention, platform, plan, head_width=config.head_width, dtype=config.compute_dtype
    )
    row, width = plan.row, config.head_width
    return f"attention: {name} on {platform} (rows of {row} tokens, heads of {width})"
