"""How a step grows with the batch, the model and the chips, by the model of `dvaojax plan`.

    python experiments/scale.py            # seconds of the roofline, and bytes between slices
    python experiments/scale.py --compile  # bytes sent by small updates, compiled
    python experiments/scale.py --host     # seconds of this machine's CPU per completion

The first table varies one size at a time of 128 groups of 16 completions, 1,024 + 4,096 tokens, of
Qwen3-4B on 64 chips of v5p; the second keeps two groups per chip, from 8 to 8,192 chips. The
second command compiles an update of two layers and short rows for the same chips.

The third command times what the host does with a completion of 4,096 tokens: decoding it with a
tokenizer, scoring it, and laying out its row.

Needs: pip install '.[plan]' for --compile, '.[hf]' for --host.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np

from dvaojax.config import Config
from dvaojax.data.packing import CompletionLayout, pack, packed_widths
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.plan import compilation, described, estimate
from dvaojax.plan.chips import Tpu, parse_slice
from dvaojax.plan.collectives import BETWEEN_SLICES
from dvaojax.plan.job import Job
from dvaojax.rewards.formats import one_thought_then_answer
from dvaojax.rewards.length import within_budget
from dvaojax.rewards.mathematics import accuracy, accuracy_math_verify
from dvaojax.sharding import MeshConfig
from dvaojax.types import Completion

TOPOLOGIES = ("v5p:2x2x2", "v5p:4x4x4", "v5p:8x8x8", "v5p:16x16x16", "2xv5p:16x16x16")
MOST_PARTS = 64  # of the parameters
TOKENS = 4096


def job(
    topology: str = "v5p:4x4x4",
    *,
    model: str = "qwen3-4b",
    prompts: int = 128,
    group_size: int = 16,
    prompt_length: int = 1024,
    completion_length: int = TOKENS,
    tensor: int = 1,
) -> Job:
    """A step in two micro-batches, with the parameters over at most 64 chips of a slice."""
    slices = parse_slice(topology)
    chips = slices.num_chips // slices.count
    fsdp = min(chips // tensor, MOST_PARTS)
    config = Config(
        model=dataclasses.replace(PRESETS[model], remat="attention"),
        prompts_per_step=prompts,
        group_size=group_size,
        max_new_tokens=completion_length,
        learning=LearningConfig(micro_batches=2),
        warm_start=WarmStartConfig(num_steps=0),
        mesh=MeshConfig(chips // (fsdp * tensor), fsdp, tensor, replica=slices.count),
    )
    return Job(config, prompt_length, slices)


def line(name: str, job: Job) -> str:
    """One row of a table."""
    rollout, update = estimate.rollout_seconds(job), estimate.training_seconds(job)
    sent = estimate.training_sent(job)
    chip, slices = job.slice.chip, estimate.sent_between_slices(job)
    within = sent / chip.link_bandwidth
    between = slices / chip.slices_bandwidth if isinstance(chip, Tpu) else 0.0
    completions = job.config.prompts_per_step * job.config.group_size
    step = rollout.total + max(update.arithmetic, update.memory, within + between)
    cells = [
        name,
        f"{rollout.arithmetic:.1f}",
        f"{rollout.memory:.1f}",
        f"{update.arithmetic:.1f}",
        f"{within:.2f} ({sent / 1e9:.0f} GB)",
        f"{between:.2f} ({slices / 1e9:.1f} GB)",
        f"{estimate.peak(job) / 2**30:.0f}",
        f"{completions / step:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(rows: dict[str, Job]) -> str:
    """The rows with their heading."""
    heading = (
        "step",
        "rollout: products, s",
        "rollout: memory, s",
        "update: products, s",
        "update: links of a slice, s",
        "between slices, s",
        "GiB per chip",
        "completions per second",
    )
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    return "\n".join(lines + [line(name, each) for name, each in rows.items()])


def one_size_at_a_time() -> dict[str, Job]:
    """64 chips, and one size doubled or another model."""
    return {
        "128 x 16, 1,024 + 4,096, 4B": job(),
        "256 prompts": job(prompts=256),
        "groups of 32": job(group_size=32),
        "prompts of 2,048": job(prompt_length=2048),
        "completions of 8,192": job(completion_length=8192),
        "1.7B": job(model="qwen3-1.7b"),
        "8B": job(model="qwen3-8b"),
    }


def chips() -> dict[str, Job]:
    """Two groups per chip; then 128 groups on 512 chips, which share the heads of each."""
    growing = {
        f"{name}, {parse_slice(name).num_chips:,} chips": job(
            name, prompts=2 * parse_slice(name).num_chips
        )
        for name in TOPOLOGIES
    }
    return growing | {"v5p:8x8x8, 128 prompts, tensor=8": job("v5p:8x8x8", tensor=8)}


def compiled(name: str, job: Job) -> str:
    """Bytes that a chip sends in an update of two layers and short rows, compiled and by model."""
    model = dataclasses.replace(job.config.model, num_layers=2, vocab_size=8192)
    config = dataclasses.replace(job.config, model=model, group_size=2, max_new_tokens=129)
    job = Job(config, 128, job.slice)
    program = compilation.training_program(job, described.slice_devices(job.slice))
    result = compilation.compile_training(job, program, effort=compilation.THOROUGH)
    if not isinstance(result, compilation.CompiledFunction):
        return f"| {name} | too large |"
    within, between = 0, 0
    for kind, each in result.profile.collectives.items():
        if kind.endswith(BETWEEN_SLICES):
            between += each.sent
        else:
            within += each.sent
    cells = [
        name,
        f"{within / 1e9:.3f}",
        f"{estimate.training_sent(job) / 1e9:.3f}",
        f"{between / 1e9:.3f}",
        f"{estimate.sent_between_slices(job) / 1e9:.3f}",
        f"{result.seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def milliseconds(function: Callable[[], object], *, calls: int, repeats: int = 5) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - began) / calls)
    return 1e3 * statistics.median(times)


def host() -> dict[str, float]:
    """Milliseconds of one core per completion of 4,096 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    words = np.random.default_rng(0).integers(0, 5000, 200_000)
    text = " ".join(f"w{word}" for word in words)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=8000, show_progress=False))
    tokens = tokenizer.encode(text).ids[:TOKENS]
    solution = (
        f"<think>{tokenizer.decode(tokens)}</think> The answer is $\\boxed{{\\frac{{4}}{{3}}}}$"
    )
    completion = Completion(solution, tuple(tokens), True)
    lengths = np.random.default_rng(0).integers(1, TOKENS // 2, (128, 16))
    layout = CompletionLayout(TOKENS, packed_widths(16 * TOKENS)[-1])
    return {
        "decoding 4,096 tokens": milliseconds(lambda: tokenizer.decode(tokens), calls=50),
        "accuracy": milliseconds(lambda: accuracy(completion, "4/3"), calls=50),
        "accuracy_math_verify": milliseconds(
            lambda: accuracy_math_verify(completion, "4/3"), calls=20
        ),
        "format and length": milliseconds(
            lambda: (
                one_thought_then_answer(completion, None),
                within_budget(completion, None, budget=2048),
            ),
            calls=50,
        ),
        "packing": milliseconds(lambda: pack(lengths, layout), calls=1) / lengths.size,
    }


def main() -> None:
    """Prints the tables, or the host's times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", action="store_true", help="time what the host does")
    parser.add_argument("--compile", action="store_true", help="compile small updates")
    arguments = parser.parse_args()
    if arguments.compile:
        described.set_environment()
        # Not the largest: libtpu 0.0.42 crashes while it compiles for two slices of 4,096 chips.
        for name in (*TOPOLOGIES[:-1], "2xv5p:8x8x8"):
            prompts = 2 * parse_slice(name).num_chips
            print(compiled(name, job(name, prompts=prompts)), flush=True)
        return
    if arguments.host:
        print("\n".join(f"| {name} | {value:.3f} |" for name, value in host().items()))
        return
    print(table(one_size_at_a_time()), table(chips()), sep="\n\n")


if __name__ == "__main__":
    main()
