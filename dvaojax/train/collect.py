"""One step's experience: completions sampled on the devices, scored on the host."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dvaojax.allocation import silent
from dvaojax.data.packing import choose_layout, fed, pack
from dvaojax.data.text import decode_completions
from dvaojax.models import Params
from dvaojax.models.flops import Lengths
from dvaojax.train import hosts
from dvaojax.train.allocation_state import Allocation, Reading
from dvaojax.train.batches import Batch, Batches
from dvaojax.train.sampler import Sampler
from dvaojax.train.scoring import score_groups
from dvaojax.types import Completion, Experience, Prompt, Rollout, Scorer, Scores, Tokenizer


class Draw(NamedTuple):
    """A step's completions, there or under way.

    Attributes:
        first: position in the stream of the first problem; the others follow it.
        rollout: the completions.
    """

    first: int
    rollout: Rollout


class Collected(NamedTuple):
    """A step's experience, and what people and files want to know of it.

    Attributes:
        experience: what the train step takes, cut to a length bucket.
        rows: `[B]`, where what is known of each problem stands.
        groups: `[S]` int, indices of those that were scored in this process.
        prompts: their problems.
        completions: of each of them, as many as were drawn.
        scores: the rewards of all groups, and what failed.
        lengths: of all prompts and completions; 0 where none was drawn.
        measures: `truncated`, `reward_seconds`, `sampled_tokens`, `refills`, `refilled_groups`,
            `unscored/<objective>`, and the scorer's own.
    """

    experience: Experience
    rows: np.ndarray
    groups: np.ndarray
    prompts: Sequence[Prompt]
    completions: Sequence[Sequence[Completion]]
    scores: Scores
    lengths: Lengths
    measures: dict[str, float]


class _Groups(NamedTuple):
    """The groups of a step, drawn and scored.

    Attributes:
        positions: of their problems in the stream.
        batch: the problems.
        rollout: on the devices.
        scores: of all of them.
        lengths: of all of them.
        stopped: `[B, G]` bool, of all of them.
        completions: of each group scored here, as many as were drawn.
        seconds: that scoring took.
    """

    positions: Sequence[int]
    batch: Batch
    rollout: Rollout
    scores: Scores
    lengths: Lengths
    stopped: np.ndarray
    completions: list[list[Completion]]
    seconds: float

    @property
    def sizes(self) -> np.ndarray:
        """`[B]`, completions of each group."""
        return (self.lengths.completions > 0).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Collector:
    """Samples and scores the groups of any step.

    Sampling is only dispatched; scoring waits for the completions it is given, and for nothing
    else unless groups are refilled. What happens between the two is the caller's choice.

    Attributes:
        batches: the problems.
        tokenizer: of the task.
        suite: the objectives.
        sampler: the jitted sampler.
        allocation: how many completions each problem gets.
        refills: times that a step may give the places of its silent groups to other problems.
        key: the run's sampling key; a completion's own key follows from it and from the problem's
            position in the stream, so nothing is consumed.
    """

    batches: Batches
    tokenizer: Tokenizer
    suite: Scorer
    sampler: Sampler
    allocation: Allocation
    refills: int
    key: Array

    def draw(self, params: Params, reading: Reading) -> tuple[Draw, Reading]:
        """Dispatches the sampling of the next problems' groups with these parameters."""
        first = reading.position
        batch = self.batches.from_position(first)
        sizes = self.allocation.sizes(reading.statistics, batch.rows)
        draw = Draw(first, self._sample(params, batch, sizes))
        return draw, reading._replace(position=first + self.batches.prompts_per_step)

    def collect(self, params: Params, draw: Draw, reading: Reading) -> tuple[Collected, Reading]:
        """A step's experience, from its completions, once they are there.

        Args:
            params: what refills are sampled with; they may be newer than those that the draw was.
            draw: the step's.
            reading: how far problems were read; refills take the next ones.
        """
        count = self.batches.prompts_per_step
        positions = range(draw.first, draw.first + count)
        groups = self._scored(positions, draw.rollout, np.ones(count, bool))
        reading = self._observed(reading, groups)
        refills = refilled = 0
        tokens = groups.lengths.completions.sum()
        while refills < self.refills:
            # One completion alone is silent whatever its problem.
            replaced = silent(groups.scores.rewards, groups.scores.mask) & (groups.sizes > 1)
            if not replaced.any():
                break
            others, reading = self._refill(params, groups, replaced, reading)
            tokens += others.lengths.completions[replaced].sum()
            groups = _with_others(groups, others, replaced, self.batches.share.scored)
            refills, refilled = refills + 1, refilled + int(replaced.sum())
        measures = {
            "sampled_tokens": float(tokens),
            "refills": float(refills),
            "refilled_groups": float(refilled),
        }
        return self._collected(groups, measures), reading

    def _sample(self, params: Params, batch: Batch, sizes: np.ndarray) -> Rollout:
        placed: Array = hosts.place(sizes.astype(np.int32), batch.serials.sharding)
        return self.sampler(params, batch.tokens, batch.lengths, self.key, batch.serials, placed)

    def _refill(
        self, params: Params, groups: _Groups, replaced: np.ndarray, reading: Reading
    ) -> tuple[_Groups, Reading]:
        """Groups of the next problems, as large as those whose places they take; no others."""
        position = reading.position + int(replaced.sum())
        following = np.where(replaced, reading.position + np.cumsum(replaced) - 1, groups.positions)
        batch = self.batches.at(following.tolist())
        rollout = self._sample(params, batch, np.where(replaced, groups.sizes, 0))
        others = self._scored(following.tolist(), rollout, replaced)
        return others, self._observed(reading._replace(position=position), others)

    def _observed(self, reading: Reading, groups: _Groups) -> Reading:
        statistics = self.allocation.observe(reading.statistics, groups.batch.rows, groups.scores)
        return reading._replace(statistics=statistics)

    def _scored(self, positions: Sequence[int], rollout: Rollout, drawn: np.ndarray) -> _Groups:
        """Some groups with their rewards; of the others, which were not drawn, there are none."""
        batch, scored = self.batches.at(positions), self.batches.share.scored
        on_host: Rollout = hosts.rows(rollout, scored)
        arrived = time.perf_counter()
        prompts = [batch.prompts[i] for i in scored]
        completions = [
            [completion for completion in group if completion.length]
            for group in decode_completions(self.tokenizer, on_host)
        ]
        shape = (len(positions), rollout.stopped.shape[1])
        scores = score_groups(self.suite, completions, prompts, groups=scored, shape=shape)
        seconds = time.perf_counter() - arrived
        mine = (hosts.rows(batch.lengths, scored), on_host.mask.sum(axis=-1, dtype=np.int32))
        *lengths, stopped = hosts.assemble((*mine, on_host.stopped), scored, shape[0])
        return _Groups(
            positions, batch, rollout, scores, Lengths(*lengths), stopped, completions, seconds
        )

    def _collected(self, groups: _Groups, measures: Mapping[str, float]) -> Collected:
        """The experience, laid out for learning."""
        batch, rollout, lengths, scores = (
            groups.batch,
            groups.rollout,
            groups.lengths,
            groups.scores,
        )
        layout = choose_layout(
            longest=int(lengths.completions.max()),
            fullest=int(fed(lengths.completions).max()),
            group_size=lengths.completions.shape[1],
            limit=rollout.tokens.shape[-1],
        )
        packed = pack(lengths.completions, layout) if layout.slots else None
        rewards, reward_mask, packed = hosts.place(
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
        is_drawn = lengths.completions > 0
        measures = {
            "truncated": float(1.0 - groups.stopped[is_drawn].mean()),
            "reward_seconds": groups.seconds,
            **measures,
            **{f"unscored/{name}": float(n) for name, n in scores.failures.items()},
            **scores.measures,
        }
        scored = self.batches.share.scored
        prompts = [batch.prompts[i] for i in scored]
        return Collected(
            experience, batch.rows, scored, prompts, groups.completions, scores, lengths, measures
        )


def _with_others(
    groups: _Groups, others: _Groups, replaced: np.ndarray, scored: np.ndarray
) -> _Groups:
    """The groups with others in the places of those that are replaced."""

    def chosen(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(replaced.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    where: Array = hosts.place(replaced, others.batch.serials.sharding)
    completions = [
        new if replaced[i] else old
        for i, new, old in zip(scored, others.completions, groups.completions, strict=True)
    ]
    return others._replace(
        rollout=_choose(where, others.rollout, groups.rollout),
        scores=_added(groups.scores, others.scores)._replace(
            rewards=chosen(others.scores.rewards, groups.scores.rewards),
            mask=chosen(others.scores.mask, groups.scores.mask),
        ),
        lengths=Lengths(
            others.lengths.prompts, chosen(others.lengths.completions, groups.lengths.completions)
        ),
        stopped=chosen(others.stopped, groups.stopped),
        completions=completions,
        seconds=groups.seconds + others.seconds,
    )


@jax.jit
def _choose(where: Array, new: Rollout, old: Rollout) -> Rollout:
    """The new rows where `where` `[B]` is true."""
    return jax.tree.map(
        lambda a, b: jnp.where(jnp.expand_dims(where, range(1, a.ndim)), a, b), new, old
    )


def _added(first: Scores, second: Scores) -> Scores:
    """What failed in either, and what both cost; the rewards are the first's."""
    measures = {**first.measures}
    for name, number in second.measures.items():
        if not name.endswith("_per_call"):  # a mean, which stays that of the first
            measures[name] = measures.get(name, 0.0) + number
    return first._replace(
        failures={name: n + second.failures[name] for name, n in first.failures.items()},
        messages=[*first.messages, *second.messages],
        measures=measures,
    )
