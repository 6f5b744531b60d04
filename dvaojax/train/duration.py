"""A rough estimate of the duration of a run, before anything of it is compiled."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dvaojax.config import Config
from dvaojax.devices import peak_of
from dvaojax.models import flops
from dvaojax.models.flops import Lengths
from dvaojax.train.mfu import step_flops

# Shares of the rates of large matrix products and copies that whole steps reach.
_ARITHMETIC, _MEMORY = 0.25, 0.4
_SIZE = 512  # of the measured matrix product
_COPIED = 1 << 24  # numbers of the measured copy


class Rates(NamedTuple):
    """Rates of all devices of a run together.

    Attributes:
        flops: floating-point operations per second in matrix products.
        bandwidth: bytes per second, reads and writes.
    """

    flops: float
    bandwidth: float


def rates_of(devices: Sequence[Any]) -> Rates:
    """The rates of the devices: those of the data sheet, or else measured within half a second.

    Devices of a CPU share its cores, so one measurement is that of all of them.
    """
    peak = peak_of(devices[0].device_kind)
    if peak is not None:
        return Rates(len(devices) * peak.flops_per_second, len(devices) * peak.bytes_per_second)
    count = 1 if devices[0].platform == "cpu" else len(devices)
    device = jax.local_devices()[0]
    square = jnp.ones((_SIZE, _SIZE), device=device)
    vector = jnp.ones(_COPIED, device=device)
    product, copy = _seconds(jnp.matmul, square, square), _seconds(jnp.negative, vector)
    return Rates(count * 2 * _SIZE**3 / product, count * 2 * vector.nbytes / copy)


def estimated_seconds(config: Config, rates: Rates, *, steps: int) -> float:
    """Seconds of the warm start, the steps and both evaluations, without compilation and rewards.

    Completions are taken to reach half of their limit. The sampler is as slow as its arithmetic or
    its memory traffic; everything else is arithmetic.

    Args:
        config: of the run.
        rates: of its devices together.
        steps: steps to do; the warm start and the first evaluation count if they are all steps.
    """
    arithmetic, bandwidth = _ARITHMETIC * rates.flops, _MEMORY * rates.bandwidth
    lengths = _lengths(config, config.prompts_per_step, config.group_size)

    work = flops.prefill_flops(config.model, lengths) + flops.decode_flops(config.model, lengths)
    sampling = max(work / arithmetic, flops.decode_bytes(config.model, lengths) / bandwidth)
    learning = (step_flops(config, lengths) - work) / arithmetic
    held_out = len(config.task.prompts("test"))
    problems = min(config.evaluation.num_prompts or held_out, held_out)
    batches = problems * config.evaluation.samples / (config.prompts_per_step * config.group_size)
    is_whole = steps == config.num_steps
    evaluations = (2 if is_whole else 1) * batches * sampling
    demonstrations = _lengths(config, config.warm_start.batch_size, 1)
    updates = config.warm_start.num_steps if is_whole else 0
    warm_start = updates * flops.train_flops(config.model, demonstrations) / arithmetic
    return warm_start + evaluations + steps * (sampling + learning)


def in_words(seconds: float) -> str:
    """A duration with two digits at most: "under 1 min", "about 4 min", "about 1.5 h"."""
    minutes = seconds / 60
    if minutes < 1:
        return "under 1 min"
    if minutes < 90:
        return f"about {_rounded(minutes):g} min"
    return f"about {_rounded(minutes / 60):g} h"


def _rounded(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value))) if value < 10 else round(value, -1)


def _lengths(config: Config, num_prompts: int, group_size: int) -> Lengths:
    return flops.full_lengths(
        num_prompts=num_prompts,
        group_size=group_size,
        prompt_length=config.task.max_prompt_length,
        completion_length=max(config.max_new_tokens // 2, 1),
    )


def _seconds(function: Any, *arguments: jax.Array) -> float:
    """Least time of a few calls of a function that is compiled already."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    durations = []
    for _ in range(3):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        durations.append(time.perf_counter() - begun)
    return min(durations)
