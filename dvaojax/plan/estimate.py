"""Estimates of a job's memory and time from its shapes, to choose the layouts to compile.

Memory is a model of the least that the compiler needs: from 5 % below to 20 % above the value that
libtpu 0.0.42 reports if it runs out of memory (Qwen3-4B, 8B and 32B, Qwen2.5-3B and 7B, on meshes
of every kind). With memory to spare, a compiled program takes up to 50 % more; its exact size is
known after compilation. Time is a roofline: the least that the chip's peak rates allow.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from dvaojax.models import flops
from dvaojax.models.config import REMAT
from dvaojax.plan.chips import Gpu
from dvaojax.plan.costs import SPLASH_SHARE
from dvaojax.plan.job import Job

FLOAT32_BYTES = 4


class ChipMemory(NamedTuple):
    """Bytes on every chip during one phase of a step.

    Attributes:
        parameters: as they are stored.
        optimizer: the optimiser's moments, which stay in memory during the rollout.
        cache: keys and values of prompts and completions.
        activations: kept by the forward pass for the backward pass.
        temporaries: everything else: gradients, gathered weights, logits, code.
    """

    parameters: int
    optimizer: int
    cache: int
    activations: int
    temporaries: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self)


class Roofline(NamedTuple):
    """Lower bounds on the time of one phase of a step, in seconds.

    Attributes:
        arithmetic: matrix products at the chip's peak.
        memory: reading from and writing to HBM.
        links: sending to other chips.
    """

    arithmetic: float
    memory: float
    links: float

    @property
    def total(self) -> float:
        """The largest bound: the three overlap."""
        return max(self)


def parameter_bytes(job: Job) -> int:
    """Bytes of the parameters on one chip, as they are stored."""
    return job.parameters * jnp.dtype(job.config.model.param_dtype).itemsize


def cache_bytes(job: Job) -> int:
    """Bytes of keys and values of one chip's groups; a group shares those of its prompt."""
    model = job.config.model
    heads = model.num_kv_heads // job.config.mesh.tensor
    numbers = 2 * model.num_layers * heads * model.head_width
    return job.chip_lengths.tokens * numbers * _compute_bytes(job)


def activation_bytes(job: Job) -> int:
    """Bytes that one micro-batch keeps on one chip for its backward pass."""
    model, tensor = job.config.model, job.config.mesh.tensor
    tokens = job.chip_lengths.tokens // job.config.learning.micro_batches
    tokens //= job.config.learning.mini_batches
    queries, pairs = model.num_heads * model.head_width, model.num_kv_heads * model.head_width
    kept = {
        "none": 10 * model.width + (6 * queries + 6 * pairs + 9 * model.ff_width) // tensor,
        "products_and_attention": 2 * model.width
        + (2 * queries + 2 * pairs + 2 * model.ff_width) // tensor,
        "products": 2 * model.width + (queries + 2 * pairs + 2 * model.ff_width) // tensor,
        "attention": model.width + queries // tensor,
        "layer": model.width,
    }[model.remat]
    return tokens * kept * model.num_layers * _compute_bytes(job)


def training_memory(job: Job) -> ChipMemory:
    """Memory during the train step."""
    model, tensor = job.config.model, job.config.mesh.tensor
    parameters = parameter_bytes(job)
    num_batches = job.config.learning.micro_batches * job.config.learning.mini_batches
    tokens = job.chip_lengths.tokens // num_batches
    heads = (2 * model.num_heads + 2 * model.num_kv_heads) * model.head_width
    layer = (
        tokens
        * (8 * model.width + (2 * heads + 5 * model.ff_width) // tensor)
        * _compute_bytes(job)
    )
    head = 3 * model.width * model.vocab_size // tensor * _compute_bytes(job)
    chunk = min(model.logits_chunk, tokens)
    logits = 3 * chunk * model.vocab_size // tensor * FLOAT32_BYTES
    if model.logits_backward == "keep":
        logits += tokens * model.vocab_size * _compute_bytes(job)
    gradients = parameters * (2 if job.config.learning.micro_batches > 1 else 1)
    temporaries = layer + head + logits + gradients
    return ChipMemory(parameters, 2 * parameters, 0, activation_bytes(job), temporaries)


def rollout_memory(job: Job) -> ChipMemory:
    """Memory during the rollout, including the optimiser's state, which stays on the chip."""
    model, tensor = job.config.model, job.config.mesh.tensor
    parameters = parameter_bytes(job)
    gathered = job.all_parameters // tensor * _compute_bytes(job)
    completions = job.chip_lengths.completions.size
    logits = 3 * completions * model.vocab_size // tensor * FLOAT32_BYTES
    return ChipMemory(parameters, 2 * parameters, cache_bytes(job), 0, gathered + logits)


def peak(job: Job) -> int:
    """Bytes of the phase that needs more."""
    return max(training_memory(job).total, rollout_memory(job).total)


def training_seconds(job: Job, *, links: float | None = None) -> Roofline:
    """Roofline of the train step, including recomputation.

    Args:
        job: the run and its slice.
        links: seconds of sending, known from a compiled program; None to estimate them.
    """
    config, chip = job.config, job.slice.chip
    products = flops.train_flops(config.model, job.lengths) + recomputed_flops(job)
    products *= config.learning.epochs
    state = 3 * job.parameters * FLOAT32_BYTES  # parameters and two moments, read and written
    updates = config.learning.updates_per_step
    return Roofline(
        arithmetic=products / job.slice.num_chips / chip.flops,
        memory=2 * state * updates / chip.memory_bandwidth,
        links=_training_link_seconds(job) if links is None else links,
    )


def recomputed_flops(job: Job) -> int:
    """Operations that the backward pass repeats, as the model's settings ask for."""
    model = job.config.model
    forward = flops.forward_parts(model, job.lengths)
    kept = REMAT[model.remat]
    return (
        (0 if kept is None or "product" in kept else forward.weights)
        + (0 if kept is None or "attention" in kept else forward.attention)
        + (0 if model.logits_backward == "keep" else forward.logits)
    )


def rollout_seconds(job: Job, *, links: float | None = None) -> Roofline:
    """Roofline of prefill and decoding, every completion at full length; arguments as above."""
    config, chip = job.config, job.slice.chip
    products = flops.prefill_flops(config.model, job.lengths)
    products += flops.decode_flops(config.model, job.lengths)
    read = flops.decode_bytes(config.model, job.chip_lengths) / config.mesh.tensor
    return Roofline(
        arithmetic=products / job.slice.num_chips / chip.flops,
        memory=read / chip.memory_bandwidth,
        links=_link_seconds(job, rollout_sent(job)) if links is None else links,
    )


class Attainable(NamedTuple):
    """Seconds of the phases of a step at rates that good programs reach.

    Attributes:
        rollout: the products of prefill at the peak; then for all tokens together their products,
            or weights and caches at `READING_SHARE` of the bandwidth, whichever takes longer.
        training: products at the peak, those of attention at `SPLASH_SHARE` of it, with the
            recomputation that the model's settings ask for.
    """

    rollout: float
    training: float


READING_SHARE = 0.65


def attainable(job: Job) -> Attainable:
    """The times that compiled programs are compared with, without sending."""
    config, chip = job.config, job.slice.chip
    rate = chip.flops * job.slice.num_chips
    forward = flops.forward_parts(config.model, job.lengths)
    kept = REMAT[config.model.remat]
    passes = 1 if kept is None or "attention" in kept else 2
    # Two products per query and key in a forward pass, five in a backward pass.
    attention = forward.attention * (passes + 2.5)
    products = flops.train_flops(config.model, job.lengths) + recomputed_flops(job)
    products -= forward.attention * (passes + 2)
    training = config.learning.epochs * (products + attention / SPLASH_SHARE) / rate

    read = flops.decode_bytes(config.model, job.chip_lengths) / config.mesh.tensor
    reading = read / (READING_SHARE * chip.memory_bandwidth)
    decoding = max(flops.decode_flops(config.model, job.lengths) / rate, reading)
    return Attainable(flops.prefill_flops(config.model, job.lengths) / rate + decoding, training)


def training_sent(job: Job) -> float:
    """Bytes that a chip sends in a train step: gathers, reduce-scatters and all-reduces."""
    model, mesh, learning = job.config.model, job.config.mesh, job.config.learning
    kept = REMAT[model.remat]
    passes = 2 if kept is None or "product" in kept else 3
    num_batches = learning.micro_batches * learning.updates_per_step
    weights = job.all_parameters / mesh.tensor * _compute_bytes(job)
    weight_bytes = (passes + 1) * weights * (1 - 1 / mesh.fsdp) + 2 * weights * (1 - 1 / mesh.data)
    rows = job.chip_lengths.tokens * learning.epochs * model.width * _compute_bytes(job)
    row_bytes = 2 * passes * 2 * model.num_layers * rows * (1 - 1 / mesh.tensor)
    return num_batches * weight_bytes + row_bytes


def rollout_sent(job: Job) -> float:
    """Bytes that a chip sends in a rollout: weights once, all-reduces over `tensor` per token."""
    model, mesh = job.config.model, job.config.mesh
    weights = job.all_parameters / mesh.tensor * _compute_bytes(job)
    rows = job.chip_lengths.tokens * model.width * _compute_bytes(job)
    sums = 2 * 2 * model.num_layers * rows * (1 - 1 / mesh.tensor)
    return weights * (1 - 1 / mesh.fsdp) + sums


def sent_between_slices(job: Job) -> float:
    """Bytes that a chip sends to other slices: its part of each micro-batch's gradients."""
    count, learning = job.slice.count, job.config.learning
    num_batches = learning.micro_batches * learning.updates_per_step
    return 2 * (1 - 1 / count) * job.parameters * _compute_bytes(job) * num_batches


def _training_link_seconds(job: Job) -> float:
    """Least seconds of the links in a train step, with the gradients between slices."""
    chip, within = job.slice.chip, _link_seconds(job, training_sent(job))
    if isinstance(chip, Gpu):
        return within
    return within + sent_between_slices(job) / chip.slices_bandwidth


def _link_seconds(job: Job, sent: float) -> float:
    """Least seconds for sending to other chips; between hosts, if the GPUs are on several."""
    chip = job.slice.chip
    if isinstance(chip, Gpu) and job.slice.shape[0] > 1:
        return sent / min(chip.link_bandwidth, job.slice.shape[1] * chip.hosts_bandwidth)
    return sent / chip.link_bandwidth


def _compute_bytes(job: Job) -> int:
    return jnp.dtype(job.config.model.compute_dtype).itemsize


def tokens_per_step(job: Job) -> int:
    """Completion tokens per step."""
    return math.prod(
        (job.config.prompts_per_step, job.config.group_size, job.config.max_new_tokens)
    )
