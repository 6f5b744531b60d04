"""Core types: prompts, completions, tasks, rollouts, and the experience of one training step.

Axis letters, used in every docstring, shape check and figure of the package:

| letter | axis                              | letter | axis            |
|--------|-----------------------------------|--------|-----------------|
| `B`    | prompts in a step (= groups)      | `V`    | vocabulary      |
| `G`    | completions per prompt            | `D`    | model width     |
| `K`    | objectives (rewards)              | `H`    | query heads     |
| `P`    | prompt tokens                     | `N`    | key/value heads |
| `T`    | completion tokens                 | `C`    | head width      |
| `L`    | layers                            | `F`    | feed-forward    |

`S` is any other axis, named where it is used, such as turns or packed tokens.

Log-probabilities are in nats, lengths in tokens, durations in seconds and named `_seconds`.
This module does not import JAX: reward functions run in processes that do not need it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import random

    import numpy as np
    from jax import Array


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One problem of a task.

    Attributes:
        text: the text that is tokenized.
        reference: passed to the reward functions with each completion, such as the gold answer.
        index: number of the problem in its source.
        category: such as a subject or the data set it is from; evaluations report each separately.
    """

    text: str
    reference: Any
    index: int
    category: str = ""


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer to a prompt, in the form that reward functions receive.

    Attributes:
        text: the decoded tokens, without the stop token and without padding.
        token_ids: the sampled tokens, including the stop token; never re-encoded from the text.
        stopped: whether a stop token was sampled; false if the token limit truncated the text.
        scoring: number of the score, from 0, where each completion has several
            (`rewards.repeats`). A reward that draws random numbers may derive its seed from it.
    """

    text: str
    token_ids: tuple[int, ...]
    stopped: bool
    scoring: int = 0

    @property
    def length(self) -> int:
        """Number of sampled tokens, including the stop token."""
        return len(self.token_ids)


class RewardFunction(Protocol):
    """Scores one completion; returns None where the objective does not apply to it."""

    def __call__(self, completion: Completion, reference: Any, /) -> float | None: ...


class AsyncRewardFunction(Protocol):
    """A reward function that waits for something, such as a server: an `async def`."""

    async def __call__(self, completion: Completion, reference: Any, /) -> float | None: ...


class Tokenizer(Protocol):
    """Converts text to token ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids, which start at 0."""
        ...

    @property
    def pad_token(self) -> int:
        """Id of the padding token."""
        ...

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids of the tokens that end a completion."""
        ...

    def encode(self, text: str, /) -> list[int]:
        """Returns the tokens of a text, without adding special tokens."""
        ...

    def decode(self, token_ids: Sequence[int], /) -> str:
        """Returns the text of the tokens, leaving out stop tokens and padding."""
        ...


@runtime_checkable
class Task(Protocol):
    """Prompts, a tokenizer, and the objectives that completions are scored on.

    A task is a frozen dataclass in one file; its fields are its settings.
    """

    @property
    def name(self) -> str:
        """Name of the task in configurations and result files."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of prompts and completions."""
        ...

    @property
    def max_prompt_length(self) -> int:
        """Length in tokens that prompts are padded to."""
        ...

    @property
    def objectives(self) -> Mapping[str, RewardFunction | AsyncRewardFunction]:
        """Reward functions by name, in the order of the columns of the reward array."""
        ...

    def prompts(self, split: str, /) -> Sequence[Prompt]:
        """Returns the problems of "train" or "test"; the two splits are disjoint."""
        ...


@runtime_checkable
class TaskWithDemonstrations(Task, Protocol):
    """A task with demonstrations, for supervised fine-tuning before reinforcement learning."""

    def demonstration(self, prompt: Prompt, generator: random.Random, /) -> str:
        """Returns one example completion of the prompt; all randomness is from the generator."""
        ...


@runtime_checkable
class TaskWithGates(Task, Protocol):
    """A task with objectives that accept or reject a completion, for methods that use gates."""

    @property
    def gates(self) -> Mapping[str, float]:
        """The smallest reward of an accepted completion, by the name of the objective."""
        ...


@runtime_checkable
class TaskWithHints(Task, Protocol):
    """A task that can ask a training problem with a hint, for problems that the policy fails."""

    @property
    def hint_levels(self) -> int:
        """Number of hints of a problem, at most 7; each says more than the one before."""
        ...

    def hinted(self, prompt: Prompt, level: int, /) -> Prompt:
        """Returns the problem with its hint of a level from 1 to `hint_levels`.

        Only the text differs, and it has at most `max_prompt_length` tokens.
        """
        ...


@runtime_checkable
class TaskWithAnswers(Task, Protocol):
    """A task whose completions give answers that can be compared, for majority voting."""

    @property
    def answer_objective(self) -> str:
        """Name of the objective that scores whether an answer is correct."""
        ...

    def answer(self, completion: Completion, /) -> str | None:
        """Returns the answer in canonical form, or None if the completion has no answer."""
        ...


@runtime_checkable
class TaskWithAnswerSets(Task, Protocol):
    """A task whose completions contain several answers, each scored on the same objectives.

    Its objectives are those of the first answer, named `OBJECTIVE/1`, then those of the second,
    `OBJECTIVE/2`, and so on; the objectives of a missing answer are masked.
    """

    @property
    def num_answers(self) -> int:
        """Number of answers per completion that are scored."""
        ...


class Scores(NamedTuple):
    """Rewards of a batch, with the failures and costs of computing them.

    Attributes:
        rewards: `[B, G, K]` float32, as the functions return them; 0 where `mask` is false.
        mask: `[B, G, K]` bool, false where an objective does not apply or its call failed.
        failures: objective -> number of its calls that failed; their rewards are masked.
        messages: one line about each failure, shown to the user.
        measures: further metrics of the scoring, such as its cost: name -> number.
        repeated: `[B, G, K, M]` float32, the scores whose means are the rewards, NaN where there is
            none; None if each completion was scored once.
    """

    rewards: np.ndarray
    mask: np.ndarray
    failures: Mapping[str, int]
    messages: Sequence[str]
    measures: Mapping[str, float] = MappingProxyType({})
    repeated: np.ndarray | None = None


class Scorer(Protocol):
    """Scores whole batches of completions."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the columns of the rewards."""
        ...

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Scores `B` groups of `G` completions, one group per prompt, on every objective."""
        ...


@runtime_checkable
class TaskWithScorer(Task, Protocol):
    """A task with objectives that are scored a batch at a time, such as those of an LLM judge.

    Their columns follow those of `objectives`, which may be empty here.
    """

    @property
    def scored_objectives(self) -> tuple[str, ...]:
        """Names of the objectives of the scorer, available without creating it."""
        ...

    def scorer(self) -> Scorer:
        """Creates the scorer; called once per run.

        Raises:
            UserError: the scorer cannot be created, for example without its server.
        """
        ...


@runtime_checkable
class TaskWithNotes(Task, Protocol):
    """A task with messages for the user, such as how many prompts it left out."""

    def notes(self, split: str, /) -> Sequence[str]:
        """Returns messages about the split "train" or "test", one line each."""
        ...


@runtime_checkable
class TaskWithRunDefaults(Protocol):
    """A task that recommends settings for runs from random parameters."""

    @property
    def run_defaults(self) -> Mapping[str, Any]:
        """Recommended values of fields of `config.Config`, which a run may replace.

        The keys are `max_new_tokens`, a number, and `model`, `learning`, `optimizer` and
        `warm_start`, a mapping each, with the arguments of that section's class.
        """
        ...


class PromptStream(Protocol):
    """An endless sequence of the problems of a task, indexed by position, without state."""

    def take(self, positions: Iterable[int], /) -> list[Prompt]:
        """Returns the problems at these positions, which start at 0."""
        ...


@runtime_checkable
class TaskWithStream(Task, Protocol):
    """A task that defines the order of its problems."""

    def stream(self, split: str, seed: int, /) -> PromptStream:
        """Returns the problems of a split, in an order that the seed and the epoch determine."""
        ...


class Rollout(NamedTuple):
    """Output of the sampler: groups of completions, including their stop tokens.

    Attributes:
        tokens: `[B, G, T]` int32, padded on the right.
        mask: `[B, G, T]` bool, true on sampled tokens, including the stop token.
        logprobs: `[B, G, T]` float32, log-probability of each token under the distribution it was
            drawn from; 0 on padding.
        stopped: `[B, G]` bool, true where a stop token was sampled; false where the limit ended it.
    """

    tokens: Array
    mask: Array
    logprobs: Array
    stopped: Array


class References(NamedTuple):
    """Reference answers of a step's problems, for objectives that the policy computes itself.

    Attributes:
        tokens: `[B, L]` int32, padding on the right.
        where: `[B, L]` bool, true on the answer's tokens.
        reasoning_lengths: `[B, G]` int32, leading tokens of each completion that are its reasoning.
    """

    tokens: Array
    where: Array
    reasoning_lengths: Array


class Experience(NamedTuple):
    """Data of one training step, with the axes of groups and objectives kept apart.

    Attributes:
        prompt_tokens: `[B, P]` int32, padding on the right.
        prompt_lengths: `[B]` int32, in tokens.
        completion_tokens: `[B, G, T]` int32, padding on the right.
        completion_mask: `[B, G, T]` bool, true on sampled tokens, including the stop token.
        logprobs: `[B, G, T]` float32, the sampler's log-probability of each sampled token.
        rewards: `[B, G, K]` float32, one column per objective, as the reward functions return them.
        reward_mask: `[B, G, K]` bool, false where an objective does not apply or was not scored.
        packed: `[B, S]` int32 if the completions of a group are packed into one row for the
            update, see `data.packing.pack`; None if they are padded to a rectangle.
        turns: `[B, G, T]` int32 if completions are episodes of several turns, see
            `learning.turns`: the turn in which each token was sampled, -1 on all other tokens.
            There is one advantage per turn then. None if each completion is a single turn.
        references: the reference answers, if an objective needs them on the devices; else None.
        repeated: `[B, G, K, M]` float32, the scores whose means are the rewards, see `Scores`; None
            if each completion was scored once.
    """

    prompt_tokens: Array
    prompt_lengths: Array
    completion_tokens: Array
    completion_mask: Array
    logprobs: Array
    rewards: Array
    reward_mask: Array
    packed: Array | None = None
    turns: Array | None = None
    references: References | None = None
    repeated: Array | None = None
