"""Supervised warm start: trains on demonstrations of the task before the first RL step."""

import random
from collections.abc import Iterator, Sequence

import numpy as np

from dvaojax.config import Config
from dvaojax.data.stream import training_stream
from dvaojax.data.text import encode, encode_prompts, pad_tokens
from dvaojax.learning.warm_start import Demonstrations
from dvaojax.models import Params
from dvaojax.run.display import Display
from dvaojax.train import hosts
from dvaojax.train.failures import stop_if_not_finite
from dvaojax.train.program import Program
from dvaojax.types import Prompt, TaskWithDemonstrations


def run_warm_start(config: Config, program: Program, params: Params, display: Display) -> Params:
    """Parameters after the warm start; unchanged where none is configured.

    Raises:
        TrainingError: loss or gradient was not finite in too many updates in a row.
    """
    settings = config.warm_start
    if settings.num_steps == 0:
        return params
    learner = program.begin_warm_start(params)
    for step, (prompts, texts) in enumerate(demonstrations(config)):
        batch = Demonstrations(*hosts.place(_encode(config, prompts, texts), program.by_group))
        learner, metrics = program.warm_start(learner, batch)
        if step % 50 == 0 or step == settings.num_steps - 1:
            stop_if_not_finite(
                f"warm start {step + 1}",
                int(learner.skipped_in_a_row),
                limit=config.max_skipped_in_a_row,
                rate="warm_start.learning_rate",
            )
            loss = float(metrics["loss"].value)
            display.print(f"warm start {step + 1}/{settings.num_steps}  loss {loss:.3f} nats/token")
    return learner.params


def check_demonstrations(config: Config) -> None:
    """Encodes all demonstrations of the warm start, before anything is written.

    Raises:
        UserError: a demonstration or its prompt is longer than its limit.
    """
    for prompts, texts in demonstrations(config):
        _encode(config, prompts, texts)


def demonstrations(config: Config) -> Iterator[tuple[list[Prompt], list[str]]]:
    """Batches of prompts and demonstrations for the warm start, equal at every call."""
    settings, task = config.warm_start, config.task
    if settings.num_steps == 0:
        return
    assert isinstance(task, TaskWithDemonstrations), "`validate` refuses other tasks"
    stream = training_stream(task, seed=config.seed + 1)
    generator = random.Random(config.seed)
    for step in range(settings.num_steps):
        first = step * settings.batch_size
        prompts = stream.take(range(first, first + settings.batch_size))
        yield prompts, [task.demonstration(prompt, generator) for prompt in prompts]


def _encode(
    config: Config, prompts: Sequence[Prompt], texts: Sequence[str]
) -> tuple[np.ndarray, ...]:
    """Prompts and completions as the arrays of `Demonstrations`.

    A stop token is appended to each completion.
    """
    task, tokenizer, width = config.task, config.task.tokenizer, config.max_new_tokens
    prompt_tokens, prompt_lengths = encode_prompts(tokenizer, prompts, width=task.max_prompt_length)
    rows = [[*encode(tokenizer, text, "demonstration"), tokenizer.stop_tokens[0]] for text in texts]
    tokens, lengths = pad_tokens(rows, tokenizer, width=width, limit="max_new_tokens")
    mask = np.arange(width)[None] < lengths[:, None]
    return prompt_tokens, prompt_lengths, tokens, mask
