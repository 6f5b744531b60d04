"""Collection of a step's experience: completions sampled on the devices, scored on the host."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dvaojax.allocation import Rounds, is_zero_variance
from dvaojax.data.packing import choose_layout, num_inputs, pack
from dvaojax.data.text import decode_completions
from dvaojax.models import Params
from dvaojax.models.flops import Lengths
from dvaojax.train import hosts
from dvaojax.train.allocation_state import Allocation, ByRule, DataState
from dvaojax.train.batches import PromptBatch, PromptBatches
from dvaojax.train.hints import Hints
from dvaojax.train.references import encode_references, reasoning_lengths
from dvaojax.train.sampler import Sampler
from dvaojax.train.scoring import score_groups
from dvaojax.types import (
    Completion,
    Experience,
    Prompt,
    References,
    Rollout,
    Scorer,
    Scores,
    Tokenizer,
)


class StepRollout(NamedTuple):
    """A step's completions, finished or still being sampled.

    Attributes:
        first: position of the step's first problem in the stream; the others follow it.
        rollout: the completions.
    """

    first: int
    rollout: Rollout


class Collected(NamedTuple):
    """A step's experience, with what is logged about it.

    Attributes:
        experience: input of the train step, cut to a length bucket.
        rows: `[B]`, each problem's row in the statistics.
        groups: `[S]` int, indices of the groups that were scored in this process.
        prompts: their problems.
        completions: of each of them, as many as were sampled.
        scores: the rewards of all groups, and the failures.
        lengths: of all prompts and completions; 0 where none was sampled.
        measures: `truncated`, `reward_seconds`, `sampled_tokens`, `refills`, `refilled_groups`,
            `unscored/<objective>`, the scorer's own, those of hints (`Collector._hinted`),
            and means over all completions where the experience does not have all.
    """

    experience: Experience
    rows: np.ndarray
    groups: np.ndarray
    prompts: Sequence[Prompt]
    completions: Sequence[Sequence[Completion]]
    scores: Scores
    lengths: Lengths
    measures: dict[str, float]


class _ScoredGroups(NamedTuple):
    """The groups of a step after sampling and scoring.

    Attributes:
        positions: of their problems in the stream.
        levels: `[B]` int, of the hint of each problem; 0 for none.
        batch: the problems.
        rollout: on the devices.
        scores: of all groups.
        lengths: of all groups.
        stopped: `[B, G]` bool, of all groups.
        references: of all groups, as host arrays; None where nothing needs them.
        completions: of each group scored in this process, as many as were sampled.
        seconds: time spent on scoring.
    """

    positions: Sequence[int]
    levels: np.ndarray
    batch: PromptBatch
    rollout: Rollout
    scores: Scores
    lengths: Lengths
    stopped: np.ndarray
    references: References | None
    completions: list[list[Completion]]
    seconds: float

    @property
    def sizes(self) -> np.ndarray:
        """`[B]`, completions of each group."""
        return (self.lengths.completions > 0).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Collector:
    """Samples and scores the groups of any step.

    `start_rollout` only dispatches the sampling. `collect` waits for the completions it is given,
    and for nothing else unless groups are refilled or gradient norms are needed. The caller may do
    other work between the two.

    Attributes:
        batches: the problems.
        tokenizer: of the task.
        scorer: the objectives.
        sampler: the jitted sampler.
        allocation: how many completions each problem gets.
        refills: how many times a step may replace its zero-variance groups by groups of other
            problems.
        repeats: how many times each completion is scored.
        gradient_norms: of the program, where the allocation depends on them; else None.
        hints: for problems of which all completions fail; None for none. Their statistics are those
            without hints.
        mask_truncated: whether completions without a stop token are left out of the experience and
            of the statistics of problems, see `LossConfig`.
        reference_width: tokens of the longest reference answer, if the experience has them; else 0.
        rounds: in which problems are chosen before they are trained on; None where they are not.
        key: the run's sampling key. The key of a completion is derived from it and from the
            problem's position in the stream, so there is no key state to save.
    """

    batches: PromptBatches
    tokenizer: Tokenizer
    scorer: Scorer
    sampler: Sampler
    allocation: Allocation
    refills: int
    key: Array
    mask_truncated: bool = False
    reference_width: int = 0
    rounds: Rounds | None = None
    hints: Hints | None = None
    repeats: int = 1
    gradient_norms: Callable[[Params, Experience], Array] | None = None

    def start_rollout(self, params: Params, data: DataState) -> tuple[StepRollout, DataState]:
        """Dispatches the sampling of the next problems' groups with these parameters."""
        first = data.position
        batch = self._batch(range(first, first + self.batches.prompts_per_step), data)
        sizes = self.allocation.sizes(data.statistics, batch.rows)
        sampled = StepRollout(first, self._sample(params, batch, sizes))
        return sampled, data._replace(position=first + self.batches.prompts_per_step)

    def collect(
        self, params: Params, sampled: StepRollout, data: DataState
    ) -> tuple[Collected, DataState]:
        """Waits for a step's completions and scores them.

        Args:
            params: for refills and gradient norms; may be newer than the parameters of the rollout.
            sampled: the step's completions, from `start_rollout`.
            data: the data state; refills take the next problems of the stream.
        """
        count = self.batches.prompts_per_step
        positions = range(sampled.first, sampled.first + count)
        groups = self._scored(positions, sampled.rollout, data, np.zeros(count, np.int32))
        data = self._observed(data, groups)
        tokens = groups.lengths.completions.sum()
        groups, data, hints = self._hinted(params, groups, data)
        tokens += hints.pop("tokens")
        refills = refilled = 0
        while refills < self.refills:
            # A single completion has zero variance for every problem.
            replaced = is_zero_variance(groups.scores.rewards, self._learned(groups)) & (
                groups.sizes > 1
            )
            if not replaced.any():
                break
            others, data = self._refill(params, groups, replaced, data)
            tokens += others.lengths.completions[replaced].sum()
            groups = _with_others(groups, others, replaced, self.batches.share.scored)
            refills, refilled = refills + 1, refilled + int(replaced.sum())
        measures = {
            "sampled_tokens": float(tokens),
            "refills": float(refills),
            "refilled_groups": float(refilled),
            **hints,
        }
        collected = self._collected(groups, measures)
        return collected, self._with_gradients(params, groups, collected.experience, data)

    def _with_gradients(
        self, params: Params, groups: _ScoredGroups, experience: Experience, data: DataState
    ) -> DataState:
        """The data state with the gradients of the completions that had no hint, where needed."""
        if self.gradient_norms is None or not isinstance(self.allocation, ByRule):
            return data
        norms: np.ndarray = hosts.whole(self.gradient_norms(params, experience))
        own = self._learned(groups) & (groups.levels == 0)[:, None, None]
        statistics = self.allocation.observe_gradients(
            data.statistics, groups.batch.rows, groups.scores._replace(mask=own), norms
        )
        return data._replace(statistics=statistics)

    def encode_next(self, data: DataState) -> None:
        """Encodes the next problems ahead of time, unless they are not chosen yet."""
        first, rounds, chosen = data.position, self.rounds, data.chosen
        if rounds is not None and chosen is not None:
            number = rounds.number(first)
            if number >= len(chosen) or chosen[number, 0] < 0:
                return
        self._batch(range(first, first + self.batches.prompts_per_step), data)

    def _batch(
        self, positions: Sequence[int], data: DataState, levels: np.ndarray | None = None
    ) -> PromptBatch:
        """The problems at positions of the run, with hints of these levels."""
        sources = None
        if self.rounds is not None and data.chosen is not None:
            sources = self.rounds.sources(data.chosen, positions)
        hints = None if levels is None else levels.tolist()
        return self.batches.at(positions, sources=sources, levels=hints)

    def _sample(self, params: Params, batch: PromptBatch, sizes: np.ndarray) -> Rollout:
        placed: Array = hosts.place(sizes.astype(np.int32), batch.serials.sharding)
        return self.sampler(params, batch.tokens, batch.lengths, self.key, batch.serials, placed)

    def _hinted(
        self, params: Params, groups: _ScoredGroups, data: DataState
    ) -> tuple[_ScoredGroups, DataState, dict[str, float]]:
        """The groups, with those that failed replaced by groups of the hinted problems.

        Returns:
            The groups, the data state with the levels that have failed, and measures: `tokens` that
            were sampled, the share of problems solved without a hint, the number of problems that
            were asked with one, of those that it helped, and of the last hints of each level.
        """
        if self.hints is None or data.failed_levels is None:
            return groups, data, {"tokens": 0.0}
        rows, tokens = groups.batch.rows, 0.0
        failed_levels = data.failed_levels.copy()
        solved, failed = self.hints.outcomes(groups.scores)
        failed_levels[rows[solved]] = 0
        asked, solved_alone = failed, solved.sum() / max(solved.sum() + failed.sum(), 1)
        for _ in range(self.hints.rounds):
            if not failed.any():
                break
            levels = self.hints.next_levels(failed_levels[rows])
            others = self._ask_again(params, groups, data, failed, levels)
            tokens += float(others.lengths.completions[failed].sum())
            groups = _with_others(groups, others, failed, self.batches.share.scored)
            failed = failed & self.hints.outcomes(groups.scores)[1]
            skipped = np.minimum(levels, self.hints.levels - 1)
            np.maximum.at(failed_levels, rows[failed], skipped[failed])
            failed = failed & (levels < self.hints.levels)
        helped = asked & self.hints.outcomes(groups.scores)[0]
        counts = np.bincount(groups.levels, minlength=self.hints.levels + 1)
        measures = {
            "tokens": tokens,
            "hints/solved_without": float(solved_alone),
            "hints/problems": float(asked.sum()),
            "hints/helped": float(helped.sum()),
            **{f"hints/level_{n}": float(counts[n]) for n in range(1, self.hints.levels + 1)},
        }
        return groups, data._replace(failed_levels=failed_levels), measures

    def _ask_again(
        self,
        params: Params,
        groups: _ScoredGroups,
        data: DataState,
        failed: np.ndarray,
        levels: np.ndarray,
    ) -> _ScoredGroups:
        """Groups of the same sizes of the failed problems, with hints; the others are empty."""
        levels = np.where(failed, levels, groups.levels)
        batch = self._batch(groups.positions, data, levels)
        rollout = self._sample(params, batch, np.where(failed, groups.sizes, 0))
        return self._scored(groups.positions, rollout, data, levels)

    def _refill(
        self, params: Params, groups: _ScoredGroups, replaced: np.ndarray, data: DataState
    ) -> tuple[_ScoredGroups, DataState]:
        """Groups of the next problems, of the same sizes as the groups they replace.

        The other groups of the result are empty.
        """
        position = data.position + int(replaced.sum())
        following = np.where(replaced, data.position + np.cumsum(replaced) - 1, groups.positions)
        levels = np.where(replaced, 0, groups.levels)
        batch = self._batch(following.tolist(), data, levels)
        rollout = self._sample(params, batch, np.where(replaced, groups.sizes, 0))
        others = self._scored(following.tolist(), rollout, data, levels)
        return others, self._observed(data._replace(position=position), others)

    def _observed(self, data: DataState, groups: _ScoredGroups) -> DataState:
        scores = groups.scores._replace(mask=self._learned(groups))
        statistics = self.allocation.observe(data.statistics, groups.batch.rows, scores)
        return data._replace(statistics=statistics)

    def _learned(self, groups: _ScoredGroups) -> np.ndarray:
        """`[B, G, K]` bool, the rewards that the update uses."""
        mask = groups.scores.mask
        return mask & groups.stopped[..., None] if self.mask_truncated else mask

    def _scored(
        self, positions: Sequence[int], rollout: Rollout, data: DataState, levels: np.ndarray
    ) -> _ScoredGroups:
        """The groups of a rollout with their rewards; an empty group has none."""
        batch, scored = self._batch(positions, data, levels), self.batches.share.scored
        on_host: Rollout = hosts.rows(rollout, scored)
        arrived = time.perf_counter()
        prompts = [batch.prompts[i] for i in scored]
        completions = [
            [completion for completion in group if completion.length]
            for group in decode_completions(self.tokenizer, on_host)
        ]
        shape = (len(positions), rollout.stopped.shape[1])
        scores = score_groups(
            self.scorer, completions, prompts, groups=scored, shape=shape, repeats=self.repeats
        )
        seconds = time.perf_counter() - arrived
        local = (hosts.rows(batch.lengths, scored), on_host.mask.sum(axis=-1, dtype=np.int32))
        *lengths, stopped = hosts.assemble((*local, on_host.stopped), scored, shape[0])
        return _ScoredGroups(
            positions=positions,
            levels=levels,
            batch=batch,
            rollout=rollout,
            scores=scores,
            lengths=Lengths(*lengths),
            stopped=stopped,
            references=self._references(prompts, completions, scored, shape),
            completions=completions,
            seconds=seconds,
        )

    def _over_all(self, groups: _ScoredGroups) -> dict[str, float]:
        """Means over all completions, in place of those over the experience."""
        scores, lengths = groups.scores, groups.lengths.completions
        count = scores.mask.sum(axis=(0, 1))
        totals = np.where(scores.mask, scores.rewards, 0.0).sum(axis=(0, 1), dtype=np.float64)
        means = np.divide(totals, count, out=np.full(len(count), np.nan), where=count > 0)
        filled = self.scorer.objectives[-1:] if self.reference_width else ()
        rewards = zip(self.scorer.objectives, means.tolist(), strict=True)
        return {
            **{f"reward/{name}": mean for name, mean in rewards if name not in filled},
            "completion_length": float(lengths[lengths > 0].mean()),
        }

    def _collected(self, groups: _ScoredGroups, measures: Mapping[str, float]) -> Collected:
        """The experience in the layout of the train step, with its measures."""
        batch, rollout, lengths, scores = (
            groups.batch,
            groups.rollout,
            groups.lengths,
            groups.scores,
        )
        layout = choose_layout(
            longest=int(lengths.completions.max()),
            most_inputs=int(num_inputs(lengths.completions).max()),
            group_size=lengths.completions.shape[1],
            limit=rollout.tokens.shape[-1],
        )
        packed = pack(lengths.completions, layout) if layout.slots else None
        rewards, reward_mask, packed, references, repeated = hosts.place(
            (scores.rewards, self._learned(groups), packed, groups.references, scores.repeated),
            batch.tokens.sharding,
        )
        completion_mask = _ended_mask(rollout) if self.mask_truncated else rollout.mask
        experience = Experience(
            prompt_tokens=batch.tokens,
            prompt_lengths=batch.lengths,
            completion_tokens=rollout.tokens[..., : layout.width],
            completion_mask=completion_mask[..., : layout.width],
            logprobs=rollout.logprobs[..., : layout.width],
            rewards=rewards,
            reward_mask=reward_mask,
            packed=packed,
            references=references,
            repeated=repeated,
        )
        is_sampled = lengths.completions > 0
        measures = {
            "truncated": float(1.0 - groups.stopped[is_sampled].mean()),
            "reward_seconds": groups.seconds,
            **measures,
            **{f"unscored/{name}": float(n) for name, n in scores.failures.items()},
            **scores.measures,
            **(self._over_all(groups) if self.mask_truncated else {}),
        }
        scored = self.batches.share.scored
        prompts = [batch.prompts[i] for i in scored]
        return Collected(
            experience, batch.rows, scored, prompts, groups.completions, scores, lengths, measures
        )

    def _references(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Completion]],
        scored: np.ndarray,
        shape: tuple[int, int],
    ) -> References | None:
        """The reference answers of all groups, if they are needed, from those of this process."""
        if not self.reference_width:
            return None
        answers = encode_references(self.tokenizer, prompts, width=self.reference_width)
        reasoning = reasoning_lengths(self.tokenizer, completions, shape[1])
        return References(*hosts.assemble((*answers, reasoning), scored, shape[0]))


def _with_others(
    groups: _ScoredGroups, others: _ScoredGroups, replaced: np.ndarray, scored: np.ndarray
) -> _ScoredGroups:
    """The groups, with those marked in `replaced` taken from `others`."""

    def merge(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(replaced.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    where: Array = hosts.place(replaced, others.batch.serials.sharding)
    completions = [
        new if replaced[i] else old
        for i, new, old in zip(scored, others.completions, groups.completions, strict=True)
    ]
    return others._replace(
        rollout=_merge_rollouts(where, others.rollout, groups.rollout),
        scores=_add_measures(groups.scores, others.scores)._replace(
            rewards=merge(others.scores.rewards, groups.scores.rewards),
            mask=merge(others.scores.mask, groups.scores.mask),
            repeated=jax.tree.map(merge, others.scores.repeated, groups.scores.repeated),
        ),
        lengths=Lengths(
            others.lengths.prompts, merge(others.lengths.completions, groups.lengths.completions)
        ),
        stopped=merge(others.stopped, groups.stopped),
        references=jax.tree.map(merge, others.references, groups.references),
        completions=completions,
        seconds=groups.seconds + others.seconds,
    )


@jax.jit
def _ended_mask(rollout: Rollout) -> Array:
    """`[B, G, T]` bool, the mask without the tokens of completions that the limit ended."""
    return rollout.mask & rollout.stopped[..., None]


@jax.jit
def _merge_rollouts(where: Array, new: Rollout, old: Rollout) -> Rollout:
    """The new rows where `where` `[B]` is true, the old rows elsewhere."""
    return jax.tree.map(
        lambda a, b: jnp.where(jnp.expand_dims(where, range(1, a.ndim)), a, b), new, old
    )


def _add_measures(first: Scores, second: Scores) -> Scores:
    """The first scores, with the failures, messages and measures of both."""
    measures = {**first.measures}
    for name, number in second.measures.items():
        if not name.endswith("_per_call"):  # a mean: the first one's is kept
            measures[name] = measures.get(name, 0.0) + number
    return first._replace(
        failures={name: n + second.failures[name] for name, n in first.failures.items()},
        messages=[*first.messages, *second.messages],
        measures=measures,
    )
