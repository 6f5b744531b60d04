"""Settings of a run that takes seconds: a small task, a model of one layer, two groups of four."""

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp

from dvaojax import sharding
from dvaojax.aggregators import Aggregator
from dvaojax.config import Config, EvaluationConfig
from dvaojax.data.grain_stream import GrainStream
from dvaojax.learning import policy_loss
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.rewards.length import within_budget
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.train import program
from dvaojax.types import Prompt


def digits(completion, reference):
    """Share of the characters that are digits; varies for random policies."""
    del reference
    return sum(c.isdigit() for c in completion.text) / max(len(completion.text), 1)


def largest(completion, reference):
    """Minus the distance of the largest digit from the reference; does not apply without digits."""
    numbers = [int(c) for c in completion.text if c.isdigit()]
    return -abs(max(numbers) - int(reference)) / 9 if numbers else None


@dataclasses.dataclass(frozen=True)
class Digits:
    """A task as a user would add it: write the digit after the given one."""

    num_train: int = 5  # does not divide by the prompts of a step

    name = "digits"
    tokenizer = CharacterTokenizer("0123456789+=[]")
    max_prompt_length = 4

    @property
    def objectives(self):
        return {
            "digits": digits,
            "largest": largest,
            "brevity": partial(within_budget, budget=5),
        }

    def prompts(self, split):
        numbers = range(self.num_train) if split == "train" else range(5, 13)
        return [Prompt("+" * (i % 3) + f"{i}", str(i + 1), i) for i in numbers]

    def demonstration(self, prompt, generator):
        return f"{prompt.reference}{generator.choice(['', ']'])}"


class DigitsByGrain(Digits):
    """The same problems in Grain's order, as for prepared data sets."""

    def stream(self, split, seed):
        return GrainStream(self.prompts(split), seed)


MODEL = ModelConfig(
    vocab_size=16, width=16, num_layers=1, num_heads=4, num_kv_heads=4, head_width=4, ff_width=16
)

CONFIG = Config(
    name="mini",
    task=Digits(),
    weights={"digits": 1.0, "largest": 0.5, "brevity": 2.0},
    num_steps=6,
    prompts_per_step=2,
    group_size=4,
    max_new_tokens=8,
    model=MODEL,
    learning=LearningConfig(),
    optimizer=OptimizerConfig(learning_rate=0.02, schedule="linear", warmup_updates=1),
    warm_start=WarmStartConfig(num_steps=2, batch_size=2),
    evaluation=EvaluationConfig(num_prompts=4),
)


def digits_config(**changes):
    """The configuration with some settings changed; those of a section as a dict."""
    for name, value in changes.items():
        if isinstance(value, dict) and name != "weights":
            changes[name] = dataclasses.replace(getattr(CONFIG, name), **value)
    return dataclasses.replace(CONFIG, **changes)


# Several updates per step, and a penalty. Tests use it with `noisy_running_mean`.
EPOCHS = digits_config(
    learning={"epochs": 2, "mini_batches": 2},
    loss={"kl_weight": 0.1},
    checkpoints={"every": 3},
)
PLAIN = digits_config(checkpoints={"every": 4})
# One step off-policy, with problems in Grain's order.
AHEAD = dataclasses.replace(EPOCHS, pipeline_depth=1, task=DigitsByGrain())

# Eight groups on eight devices, which belong to one process or to several.
SPREAD = dataclasses.replace(
    digits_config(
        prompts_per_step=8,
        mesh={"fsdp": 2},
        warm_start={"num_steps": 2, "batch_size": 8},
        evaluation={"num_prompts": 8},
        checkpoints={"every": 3},
    ),
    num_steps=4,
    pipeline_depth=1,
)


def noisy_running_mean(config):
    """An aggregator that depends on its state and its key: running-mean baselines and noise."""
    weights = jnp.asarray([config.weights[name] for name in config.objectives])[None, None]

    def init(num_objectives):
        return {"means": jnp.zeros(num_objectives), "updates": jnp.zeros((), jnp.int32)}

    def update(rewards, mask, state, key, /, *, lengths=None):
        del lengths
        current = jnp.sum(jnp.where(mask, rewards, 0.0), axis=(0, 1)) / mask[..., 0].size
        means = 0.9 * state["means"] + 0.1 * current
        centred = jnp.where(mask, rewards - means[None, None], 0.0)
        advantages = jnp.sum(centred * weights, axis=-1)
        noise = 0.1 * jax.random.normal(key, advantages.shape)
        return advantages + noise, {"means": means, "updates": state["updates"] + 1}

    return Aggregator(init, update)


def make_mesh_of(count):
    """Patches `sharding.make_mesh` to use only the first devices."""
    make_mesh = sharding.make_mesh

    def make(config, devices=None):
        return make_mesh(config, devices or jax.devices()[:count])

    return mock.patch.object(sharding, "make_mesh", make)


def bigram_logprobs(params, experience, *, model, temperature):
    """`policy_logprobs` of a bigram model on the embedding, which compiles in a second."""
    tokens = experience.completion_tokens
    before = jnp.concatenate([jnp.zeros_like(tokens[..., :1]), tokens[..., :-1]], axis=-1)
    embedding = getattr(params, "others", params)["embedding"]
    logits = jnp.einsum("bgtd,vd->bgtv", embedding[before], embedding) / temperature
    logprobs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
    return chosen, -jnp.sum(jnp.exp(logprobs) * logprobs, axis=-1)


def improbability(*arguments, **settings):
    """In place of a decoder's gradient norms, which take long to compile: `1 - pi`, above 0."""
    return -jnp.expm1(bigram_logprobs(*arguments, **settings)[0])


@contextlib.contextmanager
def quick_programs() -> Iterator[None]:
    """Patches runs to use one device, `bigram_logprobs`, and only one sampler per configuration."""
    make_sampler, samplers = program.make_sampler, {}

    def sampler(config, sampling, group_size, mesh):
        key = (config.model, config.max_new_tokens, config.task, sampling, group_size)
        if key not in samplers:
            samplers[key] = make_sampler(config, sampling, group_size, mesh)
        return samplers[key]

    with (
        make_mesh_of(1),
        mock.patch.object(program, "make_sampler", sampler),
        mock.patch.object(policy_loss, "policy_logprobs", bigram_logprobs),
        mock.patch.object(program, "policy_logprobs", bigram_logprobs),
    ):
        yield
