"""One step's experience: problems, completions, scores."""

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from dvaojax.data.stream import PromptStream
from dvaojax.data.text import decode_completions, encode_prompts
from dvaojax.models import Params
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.suite import Scores
from dvaojax.train.program import Sampler
from dvaojax.types import Completion, Experience, Prompt, Task


class Collected(NamedTuple):
    """A step's experience, and what people and files want to know of it.

    Attributes:
        experience: what the train step takes, cut to a length bucket.
        prompts: the `B` problems.
        completions: `B` lists of `G`.
        scores: the rewards and what failed.
        measures: `truncated`, `rollout_seconds`, `reward_seconds`, `sampled_tokens`.
    """

    experience: Experience
    prompts: Sequence[Prompt]
    completions: Sequence[Sequence[Completion]]
    scores: Scores
    measures: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Collector:
    """Samples and scores a step's groups.

    Attributes:
        task: prompts and tokenizer.
        stream: the order of the problems.
        suite: the objectives.
        sample: the jitted sampler.
        key: the run's sampling key; a completion's own key follows from it and from the problem's
            position in the stream, so nothing is consumed.
        prompts_per_step: `B`.
        max_new_tokens: `T`.
        sharding: of arrays whose leading axis is the groups'.
    """

    task: Task
    stream: PromptStream
    suite: RewardSuite
    sample: Sampler
    key: Array
    prompts_per_step: int
    max_new_tokens: int
    sharding: jax.sharding.NamedSharding

    def collect(self, params: Params, position: int) -> Collected:
        """The groups of the problems at `position` in the stream and after."""
        started = time.perf_counter()
        prompts = self.stream.take(position, self.prompts_per_step)
        width = self.task.max_prompt_length
        tokens, lengths = encode_prompts(self.task.tokenizer, prompts, width=width)
        serials = np.arange(position, position + len(prompts), dtype=np.int32)
        tokens, lengths, serials = jax.device_put((tokens, lengths, serials), self.sharding)
        rollout = self.sample(params, tokens, lengths, self.key, serials)
        on_host = jax.device_get(rollout)
        sampled = time.perf_counter()
        completions = decode_completions(self.task.tokenizer, on_host)
        scores = self.suite.score(completions, prompts)
        scored = time.perf_counter()
        width = length_bucket(int(on_host.mask.sum(axis=-1).max()), self.max_new_tokens)
        rewards, mask = jax.device_put((scores.rewards, scores.mask), self.sharding)
        experience = Experience(
            prompt_tokens=tokens,
            prompt_lengths=lengths,
            completion_tokens=rollout.tokens[..., :width],
            completion_mask=rollout.mask[..., :width],
            logprobs=rollout.logprobs[..., :width],
            rewards=rewards,
            reward_mask=mask,
        )
        measures = {
            "truncated": float(1.0 - on_host.stopped.mean()),
            "rollout_seconds": sampled - started,
            "reward_seconds": scored - sampled,
            "sampled_tokens": float(on_host.mask.sum()),
        }
        return Collected(experience, prompts, completions, scores, measures)


def length_bucket(length: int, limit: int) -> int:
    """The shortest of four widths that holds `length` tokens, so that few shapes are compiled.

    Args:
        length: of the longest completion.
        limit: the sampler's, the widest bucket.
    """
    buckets = [-(-limit * quarter // 4) for quarter in (1, 2, 3, 4)]
    return next(width for width in buckets if width >= length)
