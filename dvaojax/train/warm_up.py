"""The supervised start: demonstrations of the task until the policy can be taught by rewards."""

import random

import jax
import numpy as np

from dvaojax.config import Config
from dvaojax.data.stream import PromptStream
from dvaojax.data.text import encode_prompts, pad_tokens
from dvaojax.display import Display
from dvaojax.learning.warm_start import Demonstrations
from dvaojax.models import Params
from dvaojax.train.program import Program


def warm_up(config: Config, program: Program, params: Params, display: Display) -> Params:
    """Parameters after the warm start; the same as before where none is configured."""
    settings = config.warm_start
    if settings.num_steps == 0:
        return params
    stream = PromptStream(config.task.prompts("train"), seed=config.seed + 1)
    generator = random.Random(config.seed)
    learner = program.begin_warm_start(params)
    for step in range(settings.num_steps):
        batch = _demonstrations(config, stream, step * settings.batch_size, generator)
        learner, metrics = program.warm_start(learner, jax.device_put(batch, program.by_group))
        if step % 50 == 0 or step == settings.num_steps - 1:
            loss = float(metrics["loss"].value)
            display.print(f"warm start {step + 1}/{settings.num_steps}  loss {loss:.3f} nats/token")
    return learner.params


def _demonstrations(
    config: Config, stream: PromptStream, position: int, generator: random.Random
) -> Demonstrations:
    task, tokenizer = config.task, config.task.tokenizer
    prompts = stream.take(position, config.warm_start.batch_size)
    prompt_tokens, prompt_lengths = encode_prompts(tokenizer, prompts, width=task.max_prompt_length)
    rows = [
        [*tokenizer.encode(task.demonstration(prompt, generator)), tokenizer.stop_tokens[0]]
        for prompt in prompts
    ]
    tokens, lengths = pad_tokens(rows, tokenizer, width=config.max_new_tokens)
    mask = np.arange(config.max_new_tokens)[None] < lengths[:, None]
    return Demonstrations(prompt_tokens, prompt_lengths, tokens, mask)
