"""Estimates compared with explicit arithmetic and with the compiler's reports."""

import dataclasses
import math

import jax
import plans
import pytest

from dvaojax import models
from dvaojax.models import cache, flops
from dvaojax.plan import estimate
from dvaojax.plan.chips import GIB
from dvaojax.plan.estimate import Roofline


@pytest.mark.parametrize("mesh", [(1, 64, 1), (2, 8, 4), (64, 1, 1)])
def test_parameters_of_a_chip_match_its_shards(mesh):
    """Everything but norm scales is split over fsdp and tensor; nothing is split over data."""
    job = plans.job(mesh=mesh)
    _, fsdp, tensor = mesh
    shapes = jax.eval_shape(lambda: models.init(job.config.model, jax.random.key(0)))
    expected = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        is_replicated = all(axis in (None, "layer") for axis in models.logical_axes(path, leaf))
        expected += math.prod(leaf.shape) // (1 if is_replicated else fsdp * tensor)
    assert job.parameters == expected
    assert job.all_parameters == flops.num_params(job.config.model)


def test_cache_size_matches_the_sampler():
    job = plans.job(mesh=(1, 32, 2))
    config = job.config
    prompts = config.prompts_per_step // 32
    completion_cache = jax.eval_shape(
        lambda: cache.empty_cache(
            config.model,
            num_prompts=prompts,
            group_size=config.group_size,
            length=config.max_new_tokens,
        )
    )
    completions = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(completion_cache))
    prompt_bytes = completions * job.prompt_length / (config.group_size * config.max_new_tokens)
    assert estimate.cache_bytes(job) == (completions + prompt_bytes) / 2  # heads over tensor


def test_remat_keeps_one_vector_per_token_and_layer():
    job = plans.job()
    model = job.config.model
    tokens = 2 * (512 + 16 * 1024)  # two groups a chip
    assert estimate.activation_bytes(job) == tokens * model.width * model.num_layers * 2
    assert estimate.activation_bytes(plans.job(micro_batches=2)) == (
        estimate.activation_bytes(job) // 2
    )
    assert estimate.activation_bytes(_with_remat(job, "none")) > 8 * estimate.activation_bytes(job)


def _with_remat(job, remat):
    return job.with_layout(
        job.config.mesh, micro_batches=job.config.learning.micro_batches, remat=remat
    )


def test_arithmetic_is_operations_over_peak_rate_of_all_chips():
    job = _with_remat(plans.job(), "none")
    products = flops.train_flops(job.config.model, job.lengths)
    assert estimate.training_seconds(_keep_logits(job)).arithmetic == pytest.approx(
        products / (64 * 459e12)
    )
    with_remat = estimate.training_seconds(plans.job()).arithmetic  # two forward passes
    assert with_remat == pytest.approx(products * 4 / 3 / (64 * 459e12))


def _keep_logits(job):
    model = dataclasses.replace(job.config.model, logits_backward="keep")
    return dataclasses.replace(job, config=dataclasses.replace(job.config, model=model))


def test_backward_pass_repeats_what_the_policy_does_not_keep():
    job = _keep_logits(plans.job())
    forward = flops.forward_parts(job.config.model, job.lengths)
    layer = job.config.model.num_layers
    pairs = 128 * (512 * 513 // 2 + 16 * (1023 * 512 + 1023 * 1024 // 2))
    assert forward.attention == layer * pairs * 4 * 32 * 128
    assert sum(forward) == flops.forward_flops(job.config.model, job.lengths)
    for remat, repeated in {
        "none": 0,
        "layer": forward.weights + forward.attention,
        "products": forward.attention,
        "attention": forward.weights,
        "products_and_attention": 0,
    }.items():
        assert estimate.recomputed_flops(_with_remat(job, remat)) == repeated
    assert estimate.recomputed_flops(_with_remat(plans.job(), "none")) == forward.logits


def test_decoding_reads_all_weights_and_its_cache_for_each_token():
    job = plans.job()
    model, num_tokens = job.config.model, job.config.max_new_tokens - 1
    weights = 2 * (job.all_parameters)  # bfloat16; norm scales are few
    token_bytes = 2 * model.num_layers * model.num_kv_heads * model.head_width * 2
    cached = 32 * sum(range(1, num_tokens + 1)) + 2 * 512 * num_tokens  # two groups of sixteen
    expected = (weights * num_tokens + cached * token_bytes) / 2765e9
    assert estimate.rollout_seconds(job).memory == pytest.approx(expected, rel=1e-3)


def test_one_chip_sends_nothing_and_more_chips_split_the_work():
    alone = plans.job("qwen3-0.6b", "v5p:1x1x1", mesh=(1, 1, 1))
    assert estimate.training_seconds(alone).links == 0.0
    assert estimate.rollout_seconds(alone).links == 0.0
    assert estimate.training_sent(plans.job()) > 0.0
    small = plans.job(topology="v5p:2x4x4", mesh=(1, 32, 1))
    large = plans.job(mesh=(1, 64, 1))
    ratio = (
        estimate.training_seconds(small).arithmetic / estimate.training_seconds(large).arithmetic
    )
    assert ratio == pytest.approx(2.0)


def test_links_of_a_compiled_program_replace_the_estimate():
    job = plans.job()
    assert estimate.training_seconds(job, links=1.0).links == 1.0
    assert estimate.rollout_seconds(job, links=0.5).links == 0.5


def test_gpus_of_several_hosts_send_through_their_network_cards():
    one, two = (plans.job(topology=name, mesh=(1, 16, 1)) for name in ("h100:8", "h100:2x8"))
    seconds = [estimate.training_seconds(job).links for job in (one, two)]
    assert seconds[1] == pytest.approx(seconds[0] * 450 / 400)
    pair = plans.job(topology="h100:16x1", mesh=(1, 16, 1))
    assert estimate.training_seconds(pair).links == pytest.approx(seconds[0] * 450 / 50)


def test_total_is_the_largest_bound():
    assert Roofline(1.0, 3.0, 2.0).total == 3.0


def test_param_dtype_changes_parameters_but_not_the_cache():
    job = plans.job()
    narrow = dataclasses.replace(job.config.model, param_dtype="bfloat16")
    other = dataclasses.replace(job, config=dataclasses.replace(job.config, model=narrow))
    half = estimate.training_memory(other).parameters * 2
    assert estimate.training_memory(job).parameters == half
    assert estimate.cache_bytes(other) == estimate.cache_bytes(job)


# GiB per chip that libtpu 0.0.42.1 reported as needed when it was given almost no memory, for 128
# prompts x 16 completions and logits of 4,096 tokens at a time over all chips. Columns: model,
# chips, mesh, micro-batches, prompt + completion, remat.
MATHEMATICS, TOOLS, SHORT = (1024, 8192), (2048, 1024), (1024, 1024)
TRAINING = [
    ("qwen3-4b", "v5p:4x4x4", (1, 64, 1), 2, MATHEMATICS, "layer", 45.16),
    ("qwen3-4b", "v5p:4x4x4", (1, 64, 1), 1, MATHEMATICS, "layer", 92.70),
    ("qwen3-4b", "v5p:4x4x4", (1, 32, 2), 4, MATHEMATICS, "layer", 38.21),
    ("qwen3-4b", "v5p:4x4x4", (1, 16, 4), 8, MATHEMATICS, "layer", 32.29),
    ("qwen3-4b", "v5p:4x4x4", (1, 16, 4), 4, MATHEMATICS, "layer", 63.28),
    ("qwen3-4b", "v5p:4x4x4", (1, 8, 8), 16, MATHEMATICS, "layer", 30.25),
    ("qwen3-4b", "v5p:4x4x4", (64, 1, 1), 2, MATHEMATICS, "layer", 119.74),
    ("qwen3-4b", "v5p:4x4x4", (8, 8, 1), 2, MATHEMATICS, "layer", 55.36),
    ("qwen3-8b", "v5p:4x4x4", (1, 64, 1), 2, MATHEMATICS, "layer", 65.32),
    ("qwen3-8b", "v5p:4x4x4", (1, 16, 4), 8, MATHEMATICS, "layer", 49.34),
    ("qwen3-32b", "v5p:4x4x4", (1, 64, 1), 2, MATHEMATICS, "layer", 140.91),
    ("qwen3-32b", "v5p:4x4x4", (1, 16, 4), 8, MATHEMATICS, "layer", 110.71),
    ("qwen2.5-3b", "v5e:4x4", (1, 16, 1), 8, TOOLS, "layer", 9.35),
    ("qwen2.5-3b", "v5e:4x4", (1, 8, 2), 16, TOOLS, "layer", 7.87),
    ("qwen2.5-3b", "v5e:4x4", (1, 16, 1), 2, TOOLS, "layer", 24.64),
    ("qwen2.5-3b", "v5e:4x4", (16, 1, 1), 8, TOOLS, "layer", 63.12),
    ("qwen2.5-7b", "v6e:4x4", (1, 16, 1), 8, TOOLS, "layer", 19.23),
    ("qwen2.5-7b", "v6e:4x4", (1, 8, 2), 16, TOOLS, "layer", 16.39),
    ("qwen3-4b", "v5p:4x4x4", (1, 64, 1), 2, SHORT, "products", 41.78),
    ("qwen3-4b", "v5p:4x4x4", (1, 16, 4), 2, SHORT, "products", 59.47),
    ("qwen3-4b", "v5p:4x4x4", (1, 64, 1), 2, SHORT, "none", 168.86),
]
ROLLOUT = [
    ("qwen3-4b", "v5p:4x4x4", (1, 64, 1), 44.82),
    ("qwen3-4b", "v5p:4x4x4", (1, 32, 2), 40.42),
    ("qwen3-4b", "v5p:4x4x4", (1, 8, 8), 39.01),
    ("qwen3-4b", "v5p:4x4x4", (64, 1, 1), 59.57),
    ("qwen3-4b", "v5p:4x4x4", (8, 8, 1), 46.46),
    ("qwen3-8b", "v5p:4x4x4", (1, 64, 1), 52.11),
    ("qwen3-8b", "v5p:4x4x4", (1, 16, 4), 40.85),
    ("qwen3-32b", "v5p:4x4x4", (1, 64, 1), 127.60),
    ("qwen3-32b", "v5p:4x4x4", (1, 16, 4), 81.95),
]


@pytest.mark.parametrize(
    ("model", "topology", "mesh", "micro_batches", "lengths", "remat", "needed"), TRAINING
)
def test_train_step_memory_is_close_to_the_compilers_report(
    model, topology, mesh, micro_batches, lengths, remat, needed
):
    """Underestimates are bounded more tightly: they make the search try layouts that do not fit."""
    job = _with_lengths(plans.job(model, topology, mesh=mesh, micro_batches=micro_batches), lengths)
    chunk = max(4096 // job.ways, 1)
    config = dataclasses.replace(job.config.model, logits_chunk=chunk)
    job = dataclasses.replace(job, config=dataclasses.replace(job.config, model=config))
    estimated = estimate.training_memory(_with_remat(job, remat)).total / GIB
    assert 0.95 * needed < estimated < 1.2 * needed


@pytest.mark.parametrize(("model", "topology", "mesh", "needed"), ROLLOUT)
def test_rollout_memory_is_close_to_the_compilers_report(model, topology, mesh, needed):
    job = _with_lengths(plans.job(model, topology, mesh=mesh), MATHEMATICS)
    memory = estimate.rollout_memory(job)
    program = memory.total - memory.optimizer  # resident, but not part of the program
    assert program / GIB == pytest.approx(needed, rel=0.05)


def _with_lengths(job, lengths):
    prompt, completion = lengths
    config = dataclasses.replace(job.config, max_new_tokens=completion)
    return dataclasses.replace(job, config=config, prompt_length=prompt)


@pytest.mark.parametrize(("remat", "weights", "attention"), [("none", 3, 7), ("layer", 4, 9)])
def test_attainable_time_counts_the_products_of_every_pass(remat, weights, attention):
    """Attention has two products per query and key in a forward pass and five in a backward pass.

    The logits are computed twice. Tokens are counted one by one: of a group, its prompt and all but
    the last token of its completions.
    """
    job = plans.job()
    job = job.with_layout(job.config.mesh, micro_batches=1, remat=remat)
    model, rate = job.config.model, job.slice.num_chips * job.slice.chip.flops
    prompt, length, group = job.prompt_length, job.config.max_new_tokens, job.config.group_size
    heads = model.num_heads * model.head_width
    layer = model.width * (2 * heads + 2 * model.num_kv_heads * model.head_width)
    layer += 3 * model.width * model.ff_width
    keys = [*range(1, prompt + 1), *[prompt + t for t in range(1, length)] * group]
    groups = job.config.prompts_per_step
    seconds = groups * model.num_layers * 2 * layer * len(keys) * weights / rate
    seconds += groups * model.num_layers * 2 * heads * sum(keys) * attention / (0.5 * rate)
    seconds += groups * 2 * model.width * model.vocab_size * group * length * 4 / rate
    attainable = estimate.attainable(job)
    assert attainable.training == pytest.approx(seconds, rel=1e-12)
    # Decoding of these sizes is bound by reading, prefill by its products.
    bounds = estimate.rollout_seconds(job, links=0.0)
    prefill = flops.prefill_flops(model, job.lengths) / rate
    assert bounds.arithmetic < bounds.memory
    assert attainable.rollout == pytest.approx(prefill + bounds.memory / 0.65)
