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
from dvaojax.types import Rollout


class Sampler(Protocol):
    """Groups of completions of some prompts.

    Args:
        params: the policy's.
        prompt_tokens: `[B, P]`.
        prompt_lengths: `[B]`.
        key: random, of the run.
        serials: `[B]`, a number that is each prompt's own.
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
    """A jitted sampler, which brings the weights to where it wants them, once, and samples.

    Args:
        config: model, tokens and layout.
        sampling: how a token is drawn.
        group_size: `G`; groups of fewer completions are drawn by the same program.
        mesh: the devices.
    """
    tokenizer = config.task.tokenizer

    @partial(jax.jit, out_shardings=sharding.named(mesh, "group"))
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
            is_drawn = jnp.arange(group_size)[None] < sharding.constrain(sizes, "group")[:, None]
            limits = jnp.where(is_drawn, config.max_new_tokens, 0)
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


def sampler_params(params: Params, config: models.ModelConfig) -> Params:
    """The parameters as the sampler reads them: in the compute dtype, and laid out by its rules.

    Inside the sampler's own program, so that what is gathered is gathered once, before the first
    token, in the smaller dtype, and is freed with the last one. Norm scales keep their dtype, in
    which they are used; where dtype and layout agree already, nothing is moved or copied.
    """

    def lay(path: tuple[Any, ...], leaf: Array) -> Array:
        axes = models.logical_axes(path, leaf)
        if any(axes):
            leaf = leaf.astype(config.compute_dtype)
        return sharding.constrain(leaf, *axes)

    return jax.tree.map_with_path(lay, params)
