"""The first lines of a run: what is trained, for how long, where it is written, how to stop it."""

import math

from dvaojax import files
from dvaojax.config import Config, evaluated_problems, trusted_problems
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.models.flops import num_params
from dvaojax.train.attention import attention_lines
from dvaojax.train.duration import estimated_seconds, in_words, rates_of
from dvaojax.train.session import Session
from dvaojax.types import TaskWithNotes


def opening(session: Session, *, done: int) -> list[str]:
    """Four lines about a run.

    Args:
        session: of the run.
        done: steps that an earlier start has done.
    """
    config = session.config
    rates = rates_of(list(session.program.mesh.devices.flat))
    duration = in_words(estimated_seconds(config, rates, steps=config.num_steps - done))
    return [
        f"training {_policy(config)} on {config.task.name}, "
        f"{len(config.task.prompts('train')):,} problems; {_rewards(config)}, by "
        f"{config.aggregator.name}",
        f"{_steps(config, done)}; {_learning_rate(config.optimizer)}; {_warm_start(config)}; "
        f"{duration} after compiling, at a rough estimate",
        f"written to {session.directory.address}: {files.METRICS}, {files.SAMPLES}, a checkpoint "
        f"every {config.checkpoints.every} steps; at the end {files.SUMMARY} and {files.PLOTS}",
        "to stop, press Ctrl-C: the step is finished and saved; the same command with --resume "
        "continues",
    ]


def notes(session: Session) -> list[str]:
    """Lines about attention and trusted problems, and the task's notes such as prompts left out."""
    task = session.config.task
    say = task.notes if isinstance(task, TaskWithNotes) else lambda split: ()
    platform = session.program.mesh.devices.flat[0].platform
    attention = attention_lines(session.config, platform)
    attention += _trusted(session.config)
    return [*attention, *(note for split in ("train", "test") for note in say(split))]


def _trusted(config: Config) -> list[str]:
    """Which problems choose those to train on, if any."""
    trusted, number = trusted_problems(config), config.evaluation.num_prompts
    if not trusted:
        return []
    evaluated = evaluated_problems(config.task, num_prompts=number)
    selection = config.allocation.selection
    return [
        f"every {selection.every} steps, {selection.chosen} of {selection.candidates} problems are "
        f"chosen by the gradients of {len(trusted)} trusted ones, the last of the test split; none "
        f"of them is among the {len(evaluated)} of the evaluation"
    ]


def _policy(config: Config) -> str:
    """The policy and the number of its parameters, such as `a decoder of 0.41 M parameters`."""
    count = num_params(config.model)
    power = min(max(int(math.log10(count)) // 3, 0), 4)
    size = f"{count / 1000**power:.3g}{['', ' K', ' M', ' B', ' T'][power]} parameters"
    source = f"the weights of {config.pretrained}" if config.pretrained else "a decoder"
    start = "" if config.pretrained else " from random ones"
    return f"{source}, {size}{start},"


def _rewards(config: Config) -> str:
    weights = ", ".join(f"{name} {config.weights[name]:g}" for name in config.objectives)
    return f"weights of the rewards: {weights}"


def _steps(config: Config, done: int) -> str:
    if done >= config.num_steps:
        return f"all {config.num_steps} steps are done"
    steps = f"{config.num_steps} steps" if not done else f"steps {done + 1} to {config.num_steps}"
    return (
        f"{steps} of {config.prompts_per_step} prompts x {config.group_size} completions of at "
        f"most {config.max_new_tokens} tokens"
    )


def _learning_rate(optimizer: OptimizerConfig) -> str:
    rate = f"learning rate {optimizer.learning_rate:g}"
    if optimizer.schedule != "constant":
        final = optimizer.learning_rate * optimizer.final_fraction
        rate += f", {optimizer.schedule} to {final:g}"
    if optimizer.warmup_updates:
        rate += f" after a warm-up of {optimizer.warmup_updates} updates"
    return rate


def _warm_start(config: Config) -> str:
    settings = config.warm_start
    if not settings.num_steps:
        return "no warm start"
    return f"warm start of {settings.num_steps} updates at {settings.learning_rate:g}"
