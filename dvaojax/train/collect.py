"""One step's experience: completions sampled on the devices, scored on the host."""

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import Array

from dvaojax.data.packing import choose_layout, fed, pack
from dvaojax.data.text import decode_completions
from dvaojax.models import Params
from dvaojax.models.flops import Lengths
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.suite import Scores
from dvaojax.train.batches import Batches
from dvaojax.train.program import Sampler
from dvaojax.types import Completion, Experience, Prompt, Rollout, Tokenizer


class Collected(NamedTuple):
    """A step's experience, and what people and files want to know of it.

    Attributes:
        experience: what the train step takes, cut to a length bucket.
        prompts: the `B` problems.
        completions: `B` lists of `G`.
        scores: the rewards and what failed.
        lengths: of prompts and completions.
        measures: `truncated`, `reward_seconds`, `sampled_tokens`.
    """

    experience: Experience
    prompts: Sequence[Prompt]
    completions: Sequence[Sequence[Completion]]
    scores: Scores
    lengths: Lengths
    measures: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Collector:
    """Samples and scores the groups of any step.

    Sampling is only dispatched; scoring waits for the completions it is given, and for nothing
    else. What happens between the two is the caller's choice.

    Attributes:
        batches: the problems of every step.
        tokenizer: of the task.
        suite: the objectives.
        sampler: the jitted sampler.
        key: the run's sampling key; a completion's own key follows from it and from the problem's
            position in the stream, so nothing is consumed.
    """

    batches: Batches
    tokenizer: Tokenizer
    suite: RewardSuite
    sampler: Sampler
    key: Array

    def sample(self, params: Params, step: int) -> Rollout:
        """Dispatches the sampling of a step's groups with these parameters."""
        batch = self.batches.of_step(step)
        return self.sampler(params, batch.tokens, batch.lengths, self.key, batch.serials)

    def score(self, rollout: Rollout, step: int) -> Collected:
        """A step's experience, from its completions, once they are there."""
        batch = self.batches.of_step(step)
        on_host = jax.device_get(rollout)
        arrived = time.perf_counter()
        completions = decode_completions(self.tokenizer, on_host)
        scores = self.suite.score(completions, batch.prompts)
        scored = time.perf_counter()
        lengths = Lengths(jax.device_get(batch.lengths), on_host.mask.sum(axis=-1))
        layout = choose_layout(
            longest=int(lengths.completions.max()),
            fullest=int(fed(lengths.completions).max()),
            group_size=lengths.completions.shape[1],
            limit=rollout.tokens.shape[-1],
        )
        packed = pack(lengths.completions, layout) if layout.slots else None
        rewards, reward_mask, packed = jax.device_put(
            (scores.rewards, scores.mask, packed), batch.tokens.sharding
        )
        experience = Experience(
            prompt_tokens=batch.tokens,
            prompt_lengths=batch.lengths,
            completion_tokens=rollout.tokens[..., : layout.width],
            completion_mask=rollout.mask[..., : layout.width],
            logprobs=rollout.logprobs[..., : layout.width],
            rewards=rewards,
            reward_mask=reward_mask,
            packed=packed,
        )
        measures = {
            "truncated": float(1.0 - on_host.stopped.mean()),
            "reward_seconds": scored - arrived,
            "sampled_tokens": float(lengths.completions.sum()),
        }
        return Collected(experience, batch.prompts, completions, scores, lengths, measures)
