"""The sampler of a run, jitted over its mesh."""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from dvaojax import models, sharding
from dvaojax.config import Config
from dvaojax.models import Params
from dvaojax.rollout import completion_keys, rollout
from dvaojax.rollout.sampling import Sampling
from dvaojax.train.attention import attention_lines
from dvaojax.types import Rollout


class Sampler(Protocol):
    """Samples groups of completions.

    Args:
        params: of the policy.
        prompt_tokens: `[B, P]`.
        prompt_lengths: `[B]`.
        key: the run's random key for completions.
        serials: `[B]`, a unique number for each prompt; random keys are derived from it.
        sizes: `[B]`, completions of each group, at most the sampler's `G`; None for full groups.
    """

    def __call__(
        self,
        params: Params,
        prompt_tokens: Array,
        prompt_lengths: Array,
        key: Array,
        serials: Array,
        sizes: Array | None = None,
        /,
    ) -> Rollout: ...


def make_sampler(config: Config, sampling: Sampling, group_size: int, mesh: Mesh) -> Sampler:
    """A jitted sampler, which first moves the weights to its own layout, once per call.

    Args:
        config: model, tokens and mesh.
        sampling: distribution of a token.
        group_size: `G`; smaller groups are sampled by the same program.
        mesh: the devices.

    Raises:
        UserError: the attention that the model names does not support the devices or the model.
    """
    tokenizer = config.task.tokenizer
    platform = mesh.devices.flat[0].platform
    attention_lines(config, platform)  # refuses what cannot be used, before anything is written

    @partial(
        jax.jit,
        out_shardings=sharding.named(mesh, "group"),
        compiler_options=_compiler_options(config.rollout_loop, platform, mesh.size),
    )
    @partial(sharding.on_mesh, mesh, rules=sharding.SAMPLER_RULES[config.mesh.sampler])
    def sample(
        params: Params,
        prompt_tokens: Array,
        prompt_lengths: Array,
        key: Array,
        serials: Array,
        sizes: Array | None = None,
    ) -> Rollout:
        limits = None
        if sizes is not None:
            is_sampled = jnp.arange(group_size)[None] < sharding.constrain(sizes, "group")[:, None]
            limits = jnp.where(is_sampled, config.max_new_tokens, 0)
        return rollout(
            sampler_params(params, config.model),
            sharding.constrain(prompt_tokens, "group"),
            sharding.constrain(prompt_lengths, "group"),
            completion_keys(key, serials, group_size=group_size),
            config=config.model,
            sampling=sampling,
            max_new_tokens=config.max_new_tokens,
            stop_tokens=tuple(tokenizer.stop_tokens),
            pad_token=tokenizer.pad_token,
            limits=limits,
            max_stages=config.rollout_stages,
        )

    return sample


# Operations that may be part of a CUDA graph: XLA's default, and loops.
_IN_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"


def _compiler_options(loop: str, platform: str, num_devices: int) -> dict[str, str] | None:
    """Options that make the loop over tokens a CUDA graph.

    By default only its body is one, and the host waits for each token to see whether the loop ends.
    With several devices it has to: the condition is a collective operation, which no graph holds.
    """
    if platform != "gpu" or num_devices > 1 or loop == "host":
        return None
    return {"xla_gpu_enable_command_buffer": _IN_GRAPHS}


def sampler_params(params: Params, config: models.ModelConfig) -> Params:
    """The parameters in the sampler's layout: in the compute dtype, and sharded by its rules.

    This runs inside the sampler's program, so parameters are gathered once per call, before the
    first token, in the smaller dtype, and are freed after the last token. Norm scales keep their
    dtype, in which they are used. Where dtype and sharding already match, nothing is copied.
    """

    def to_layout(path: tuple[Any, ...], leaf: Array) -> Array:
        axes = models.logical_axes(path, leaf)
        if any(axes):
            leaf = leaf.astype(config.compute_dtype)
        return sharding.constrain(leaf, *axes)

    return jax.tree.map_with_path(to_layout, params)
