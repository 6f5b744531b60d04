"""Memory and time of a job from its shapes alone, to choose what is worth compiling.

Memory is a model of what the compiler needs at least: from a twentieth below to a fifth above what
libtpu 0.0.42 says when it runs out (Qwen3-4B, 8B and 32B, Qwen2.5-3B and 7B, on meshes of every
kind). A program that has room takes up to half as much again, and what is compiled says for itself
how much. Time is a roofline: what the peak rates of the chip allow.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from dvaojax.models import flops
from dvaojax.plan.job import Job

WIDE = 4  # bytes of a float32


class Memory(NamedTuple):
    """Bytes on every chip while one half of a step runs.

    Attributes:
        parameters: as they are stored.
        optimizer: the optimiser's moments; they stay while completions are sampled.
        cache: keys and values of prompts and completions.
        activations: what the forward pass keeps for the backward pass.
        temporaries: everything else: gradients, gathered weights, logits, code.
    """

    parameters: int
    optimizer: int
    cache: int
    activations: int
    temporaries: int

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self)


class Seconds(NamedTuple):
    """Least time of one half of a step, by what bounds it.

    Attributes:
        arithmetic: matrix products at the chip's peak.
        memory: what must be read from and written to HBM.
        links: what must be sent to other chips.
    """

    arithmetic: float
    memory: float
    links: float

    @property
    def total(self) -> float:
        """The largest: the three can go on at once."""
        return max(self)


def parameter_bytes(job: Job) -> int:
    """Parameters of one chip as they are stored."""
    return job.parameters * jnp.dtype(job.config.model.param_dtype).itemsize


def cache_bytes(job: Job) -> int:
    """Keys and values of one chip's groups, prompts once."""
    model = job.config.model
    heads = model.num_kv_heads // job.config.mesh.tensor
    numbers = 2 * model.num_layers * heads * model.head_width
    return job.chip_lengths.tokens * numbers * _narrow(job)


def activation_bytes(job: Job) -> int:
    """What one micro-batch keeps for its backward pass on one chip."""
    model, tensor = job.config.model, job.config.mesh.tensor
    tokens = job.chip_lengths.tokens // job.config.learning.micro_batches
    tokens //= job.config.learning.mini_batches
    queries, pairs = model.num_heads * model.head_width, model.num_kv_heads * model.head_width
    kept = {
        "none": 10 * model.width + (6 * queries + 6 * pairs + 9 * model.ff_width) // tensor,
        "products": 2 * model.width + (queries + 2 * pairs + 2 * model.ff_width) // tensor,
        "layer": model.width,
    }[model.remat]
    return tokens * kept * model.num_layers * _narrow(job)


def training_memory(job: Job) -> Memory:
    """While the train step runs."""
    model, tensor = job.config.model, job.config.mesh.tensor
    parameters = parameter_bytes(job)
    pieces = job.config.learning.micro_batches * job.config.learning.mini_batches
    tokens = job.chip_lengths.tokens // pieces
    heads = (2 * model.num_heads + 2 * model.num_kv_heads) * model.head_width
    layer = tokens * (8 * model.width + (2 * heads + 5 * model.ff_width) // tensor) * _narrow(job)
    head = 3 * model.width * model.vocab_size // tensor * _narrow(job)
    logits = 3 * max(model.logits_chunk // job.ways, 1) * model.vocab_size // tensor * WIDE
    gradients = parameters * (2 if job.config.learning.micro_batches > 1 else 1)
    temporaries = layer + head + logits + gradients
    return Memory(parameters, 2 * parameters, 0, activation_bytes(job), temporaries)


def rollout_memory(job: Job) -> Memory:
    """While completions are sampled; the train state stays where it is."""
    model, tensor = job.config.model, job.config.mesh.tensor
    parameters = parameter_bytes(job)
    gathered = job.all_parameters // tensor * _narrow(job)
    completions = job.chip_lengths.completions.size
    logits = 3 * completions * model.vocab_size // tensor * WIDE
    return Memory(parameters, 2 * parameters, cache_bytes(job), 0, gathered + logits)


def peak(job: Job) -> int:
    """The larger of the two."""
    return max(training_memory(job).total, rollout_memory(job).total)


def training_seconds(job: Job, *, sent: float | None = None) -> Seconds:
    """Roofline of the train step, recomputation included.

    Args:
        job: what is planned.
        sent: bytes that a chip sends, where a compiled program says so.
    """
    config, chip = job.config, job.slice.chip
    products = flops.train_flops(config.model, job.lengths)
    if config.model.remat == "layer":
        products += flops.forward_flops(config.model, job.lengths)
    products *= config.learning.epochs
    state = 3 * job.parameters * WIDE  # parameters and two moments, read and written
    updates = config.learning.updates_per_step
    return Seconds(
        arithmetic=products / job.slice.num_chips / chip.flops,
        memory=2 * state * updates / chip.memory_bandwidth,
        links=(training_sent(job) if sent is None else sent) / chip.link_bandwidth,
    )


def rollout_seconds(job: Job, *, sent: float | None = None) -> Seconds:
    """Roofline of prefill and decoding, every completion at full length; arguments as above."""
    config, chip = job.config, job.slice.chip
    products = flops.prefill_flops(config.model, job.lengths)
    products += flops.decode_flops(config.model, job.lengths)
    read = flops.decode_bytes(config.model, job.chip_lengths) / config.mesh.tensor
    return Seconds(
        arithmetic=products / job.slice.num_chips / chip.flops,
        memory=read / chip.memory_bandwidth,
        links=(rollout_sent(job) if sent is None else sent) / chip.link_bandwidth,
    )


def training_sent(job: Job) -> float:
    """Bytes that a chip sends in a train step: weights gathered, gradients scattered, sums."""
    model, mesh, learning = job.config.model, job.config.mesh, job.config.learning
    passes = 3 if model.remat == "layer" else 2
    pieces = learning.micro_batches * learning.updates_per_step
    weights = job.all_parameters / mesh.tensor * _narrow(job)
    of_weights = (passes + 1) * weights * (1 - 1 / mesh.fsdp) + 2 * weights * (1 - 1 / mesh.data)
    rows = job.chip_lengths.tokens * learning.epochs * model.width * _narrow(job)
    of_rows = 2 * passes * 2 * model.num_layers * rows * (1 - 1 / mesh.tensor)
    return pieces * of_weights + of_rows


def rollout_sent(job: Job) -> float:
    """Bytes that a chip sends in a rollout: weights once, sums over tensor at every turn."""
    model, mesh = job.config.model, job.config.mesh
    weights = job.all_parameters / mesh.tensor * _narrow(job)
    rows = job.chip_lengths.tokens * model.width * _narrow(job)
    sums = 2 * 2 * model.num_layers * rows * (1 - 1 / mesh.tensor)
    return weights * (1 - 1 / mesh.fsdp) + sums


def _narrow(job: Job) -> int:
    return jnp.dtype(job.config.model.compute_dtype).itemsize


def tokens_per_step(job: Job) -> int:
    """Completion tokens that a step samples and learns from."""
    return math.prod(
        (job.config.prompts_per_step, job.config.group_size, job.config.max_new_tokens)
    )
