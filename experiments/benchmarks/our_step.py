"""RL steps of dvaojax on a workload, timed in their parts.

    python experiments/benchmarks/our_step.py WORKLOAD.json [--part sampler] [--micro-batches 4]

Started by `rl_step.py` and `accelerator.py` as a subprocess, like the scripts of the peers. A step
is that of `dvaojax train`: rollout, two rewards on the host from the decoded text, then DVAO and an
AdamW update in one jitted call with donated state. On CPUs, groups are divided over one device per
core: products of few rows, and what is between products, use a single core of a device.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ceilings
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from words import REWARDS, Words, words_of
from workload import PROBE_TOKENS, WARM_UP, Workload

import dvaojax
from dvaojax import models, sharding
from dvaojax.aggregators import dvao, stateless
from dvaojax.data.packing import CompletionLayout, choose_layout, num_inputs, pack
from dvaojax.data.text import decode_completions
from dvaojax.learning.gradients import init_learner
from dvaojax.learning.optimizer import OptimizerConfig, make_optimizer
from dvaojax.learning.policy_loss import LossConfig, make_policy_loss
from dvaojax.learning.preparation import joined_once
from dvaojax.learning.train_step import LearningConfig, TrainState, make_train_step
from dvaojax.models import ModelConfig, Params
from dvaojax.rollout import MAX_STAGES, completion_keys, rollout
from dvaojax.rollout.sampling import Sampling
from dvaojax.sharding import MeshConfig
from dvaojax.types import Experience, Rollout

# Tokens of a device's micro-batch: on a CPU its activations fit the caches. Packed rows are only as
# wide as their micro-batch needs, so small micro-batches have less padding.
TOKENS_AT_ONCE = {"cpu": 1024, "elsewhere": 32_768}
PACKED_TOKENS_AT_ONCE = {"cpu": 512, "elsewhere": 32_768}

Seconds = dict[str, float]  # of the timed parts of a step


class System(NamedTuple):
    """The jitted functions of a workload.

    Attributes:
        mesh: the devices, over which groups are divided.
        sample: (parameters, prompts `[B, P]`, limits `[B, G]`, serials `[B]`) -> completions.
        train: (state, experience, None) -> (state, metrics, advantages); the state is donated.
        prompts: `[steps, B, P]` int32.
        limits: `[steps, B, G]` int32, tokens of each completion.
        completion_length: `T`.
        layouts: layout of each step's completions in the update, chosen as in a run.
        words: the tokenizer.
    """

    mesh: Mesh
    sample: Callable[[Params, Array, Array, Array], Rollout]
    train: Any
    prompts: np.ndarray
    limits: np.ndarray
    completion_length: int
    layouts: list[CompletionLayout]
    words: Words


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workload", type=Path)
    parser.add_argument("--part", choices=PARTS, default="step")
    parser.add_argument("--micro-batches", type=int)
    arguments = parser.parse_args()
    workload = Workload.load(arguments.workload)
    model = ModelConfig(**workload.model)
    num_devices = cores_for(len(workload.prompts[0]), arguments.micro_batches or 1)
    jax.config.update("jax_num_cpu_devices", num_devices)
    if jax.default_backend() != "cpu":
        num_devices = 1
    micro_batches = arguments.micro_batches or automatic_micro_batches(workload, num_devices)
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:num_devices])

    before = ceilings.measure(model.compute_dtype)
    system, state = begin(model, workload, mesh=mesh, micro_batches=micro_batches)
    if workload.weights:
        save_weights(state.learner.params, workload.weights)
    logprob = probe(model, state.learner.params, workload)
    if arguments.part != "sampler":
        state = compile_layouts(system, state)
    times = []
    for index in range(len(workload.prompts)):
        state, seconds = PARTS[arguments.part](system, state, index)
        times.append(seconds)
    after = ceilings.measure(model.compute_dtype)

    times = times[WARM_UP:]
    device = jax.devices()[0]
    report = {
        "version": dvaojax.__version__,
        "jax": jax.__version__,
        "device": device.device_kind,
        "devices": num_devices,
        "micro_batches": micro_batches,
        "probe_logprob": logprob,
        "step_seconds": [sum(seconds.values()) for seconds in times],
        **{f"{part}_seconds": [seconds[part] for seconds in times] for part in times[0]},
        "peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "ceilings": ceilings.best(before, after)._asdict(),
    }
    if "train" in times[0]:
        report["update_bytes"] = update_bytes(system, state)
    print(json.dumps(report))


def cores_for(num_prompts: int, micro_batches: int) -> int:
    """The largest number of cores that can share every micro-batch evenly."""
    groups = num_prompts // micro_batches
    return max(n for n in range(1, num_cores() + 1) if groups % n == 0)


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def automatic_micro_batches(workload: Workload, num_devices: int = 1) -> int:
    """The number of micro-batches whose size on each device is nearest to `TOKENS_AT_ONCE`."""
    _, num_prompts, prompt_length = np.shape(workload.prompts)
    layouts = [layout_of(lengths, workload) for lengths in np.asarray(workload.limits)]
    packed = all(layout.slots for layout in layouts)
    longest = max(
        num_inputs(lengths).max() if layout.slots else workload.group_size * layout.width
        for lengths, layout in zip(np.asarray(workload.limits), layouts, strict=True)
    )
    groups = num_prompts // num_devices
    tokens = groups * (prompt_length + longest)
    at_once = (PACKED_TOKENS_AT_ONCE if packed else TOKENS_AT_ONCE)[
        "cpu" if jax.default_backend() == "cpu" else "elsewhere"
    ]
    divisors = [n for n in range(1, groups + 1) if groups % n == 0]
    return min(divisors, key=lambda n: abs(math.log(tokens / n / at_once)))


def begin(
    model: ModelConfig, workload: Workload, *, mesh: Mesh, micro_batches: int
) -> tuple[System, TrainState]:
    """The functions, compiled at their first call, and the initial state."""
    if jax.default_backend() == "cpu":  # a few small layers: 6 % less processor time in the update
        model = dataclasses.replace(model, layer_loop="unrolled")
    optimizer = make_optimizer(OptimizerConfig(), num_updates=len(workload.prompts))
    loss = make_policy_loss(
        LossConfig(),
        model=model,
        temperature=1.0,
        max_new_tokens=workload.completion_length,
    )
    train = make_train_step(
        LearningConfig(micro_batches=micro_batches),
        loss=loss,
        optimizer=optimizer,
        aggregator=stateless(dvao, weights=np.ones(len(REWARDS), np.float32)),
        prepare=joined_once(model),
    )

    @partial(jax.jit, out_shardings=sharding.named(mesh))
    def first_state(key: Array) -> TrainState:
        learner = init_learner(models.init(model, key), optimizer)
        return TrainState(jnp.zeros((), jnp.int32), learner, (), jax.random.key(2))

    system = System(
        mesh=mesh,
        sample=make_sampler(model, workload, mesh=mesh),
        train=jax.jit(sharding.on_mesh(mesh, train), donate_argnums=0),
        prompts=np.asarray(workload.prompts, np.int32),
        limits=np.asarray(workload.limits, np.int32),
        completion_length=workload.completion_length,
        layouts=[layout_of(lengths, workload) for lengths in np.asarray(workload.limits)],
        words=words_of(workload),
    )
    return system, first_state(jax.random.key(0))


def make_sampler(
    model: ModelConfig, workload: Workload, *, mesh: Mesh, max_stages: int = MAX_STAGES
) -> Callable[[Params, Array, Array, Array], Rollout]:
    """The sampler of a workload, see `System`."""

    @partial(jax.jit, out_shardings=sharding.named(mesh, "group"))
    @partial(sharding.on_mesh, mesh, rules=sharding.SAMPLER_RULES["gathered"])
    def sample(params: Params, prompts: Array, limits: Array, serials: Array) -> Rollout:
        return rollout(
            _in_compute_dtype(params, model),
            prompts,
            jnp.full(prompts.shape[:1], prompts.shape[1], jnp.int32),
            completion_keys(jax.random.key(1), serials, group_size=workload.group_size),
            config=model,
            sampling=Sampling(),
            max_new_tokens=workload.completion_length,
            stop_tokens=Words.stop_tokens,
            pad_token=Words.pad_token,
            limits=limits,
            max_stages=max_stages,
        )

    return sample


def _in_compute_dtype(params: Params, model: ModelConfig) -> Params:
    """The matrices cast once a rollout, as in a run."""

    def cast(path: tuple[Any, ...], leaf: Array) -> Array:
        is_matrix = any(models.logical_axes(path, leaf))
        return leaf.astype(model.compute_dtype) if is_matrix else leaf

    return jax.tree_util.tree_map_with_path(cast, params)


def layout_of(lengths: np.ndarray, workload: Workload) -> CompletionLayout:
    """The layout of completions with lengths `[B, G]`, in tokens."""
    return choose_layout(
        longest=int(lengths.max()),
        most_inputs=int(num_inputs(lengths).max()),
        group_size=workload.group_size,
        limit=workload.completion_length,
    )


def compile_layouts(system: System, state: TrainState) -> TrainState:
    """Runs an update in every layout, so that no timed step compiles; returns the new state."""
    for layout in dict.fromkeys(system.layouts):
        state = _update(system, state, random_experience(system, system.layouts.index(layout)))
    return state


def whole_step(system: System, state: TrainState, index: int) -> tuple[TrainState, Seconds]:
    """Rollout, rewards and update of step number `index`."""
    started = time.perf_counter()
    sampled = _sample(system, state, index)
    on_host = jax.device_get(sampled)
    ended = time.perf_counter()
    rewards = _rewards(system.words, on_host)
    scored = time.perf_counter()
    state = _update(system, state, _experience(system, index, sampled, rewards))
    updated = time.perf_counter()
    return state, {"rollout": ended - started, "reward": scored - ended, "train": updated - scored}


def sampler_alone(system: System, state: TrainState, index: int) -> tuple[TrainState, Seconds]:
    """Only the rollout of step number `index`, until its tokens are on the host."""
    started = time.perf_counter()
    jax.device_get(_sample(system, state, index))
    return state, {"rollout": time.perf_counter() - started}


def train_step_alone(system: System, state: TrainState, index: int) -> tuple[TrainState, Seconds]:
    """Only the update, on random completions."""
    experience = jax.block_until_ready(random_experience(system, index))
    started = time.perf_counter()
    state = _update(system, state, experience)
    return state, {"train": time.perf_counter() - started}


PARTS = {"step": whole_step, "sampler": sampler_alone, "train": train_step_alone}


def update_bytes(system: System, state: TrainState) -> int:
    """Memory of the compiled update: state, experience and temporaries."""
    lowered = system.train.lower(state, random_experience(system, 0), None)
    plan = lowered.compile().memory_analysis()
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return held + plan.temp_size_in_bytes


def probe(model: ModelConfig, params: Params, workload: Workload) -> float:
    """Mean log-probability of the first prompt's tokens, to check that peers have the same model.

    In nats, over the first `PROBE_TOKENS` tokens except the very first one.
    """
    tokens = jnp.asarray(workload.prompts[0][0][:PROBE_TOKENS], jnp.int32)[None]

    @jax.jit
    def mean_logprob(params: Params) -> Array:
        decoder = models.apply(model, params)
        logprobs = jax.nn.log_softmax(decoder.logits(decoder.prefill(tokens)[0][:, :-1]))
        return jnp.mean(jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1))

    return float(mean_logprob(params))


def save_weights(params: Params, path: str) -> None:
    """Saves the parameters in float32 under their paths, as the peers' initial weights."""
    named = jax.tree_util.tree_leaves_with_path(params)
    arrays = {
        "/".join(str(key.key) for key in keys): np.asarray(leaf, np.float32) for keys, leaf in named
    }
    np.savez(path, allow_pickle=False, **arrays)


def _sample(system: System, state: TrainState, index: int) -> Rollout:
    prompts = system.prompts[index]
    serials = jnp.arange(len(prompts), dtype=jnp.int32) + index * len(prompts)
    inputs = _by_group(system, (prompts, system.limits[index], serials))
    return system.sample(state.learner.params, *inputs)


def _update(system: System, state: TrainState, experience: Experience) -> TrainState:
    return jax.block_until_ready(system.train(state, experience, None))[0]


def _rewards(words: Words, sampled: Rollout) -> np.ndarray:
    """Rewards `[B, G, K]` float32 of the decoded text."""
    groups = decode_completions(words, sampled)
    return np.array(
        [[[reward(c.text) for reward in REWARDS] for c in group] for group in groups], np.float32
    )


def random_experience(system: System, index: int) -> Experience:
    """Random completions and rewards with the lengths of step number `index`."""
    limits = system.limits[index]
    shape = (*limits.shape, system.completion_length)
    rng = np.random.default_rng(index)
    sampled = Rollout(
        tokens=jnp.asarray(rng.integers(0, system.words.vocab_size, shape, np.int32)),
        mask=jnp.asarray(np.arange(shape[-1]) < limits[..., None]),
        logprobs=jnp.full(shape, -math.log(system.words.vocab_size), jnp.float32),
        stopped=jnp.zeros(limits.shape, bool),
    )
    rewards = rng.normal(size=(*limits.shape, len(REWARDS))).astype(np.float32)
    return _experience(system, index, sampled, rewards)


def _by_group(system: System, tree: Any) -> Any:
    """Arrays with a leading axis of groups, divided over the devices."""
    return jax.device_put(tree, sharding.named(system.mesh, "group"))


def _experience(system: System, index: int, sampled: Rollout, rewards: np.ndarray) -> Experience:
    prompts, layout = system.prompts[index], system.layouts[index]
    packed = pack(system.limits[index], layout) if layout.slots else None
    experience = Experience(
        prompt_tokens=jnp.asarray(prompts),
        prompt_lengths=jnp.full(len(prompts), prompts.shape[1], jnp.int32),
        completion_tokens=sampled.tokens[..., : layout.width],
        completion_mask=sampled.mask[..., : layout.width],
        logprobs=sampled.logprobs[..., : layout.width],
        rewards=jnp.asarray(rewards),
        reward_mask=jnp.ones(rewards.shape, bool),
        packed=jax.tree.map(jnp.asarray, packed),
    )
    return _by_group(system, experience)


if __name__ == "__main__":
    main()
