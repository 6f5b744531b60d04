"""The words of the house: what a prompt, a completion and a step's experience are.

Axis letters, used in every docstring, shape check and figure of the package:

| letter | axis                              | letter | axis            |
|--------|-----------------------------------|--------|-----------------|
| `B`    | prompts in a step (= groups)      | `V`    | vocabulary      |
| `G`    | completions per prompt            | `D`    | model width     |
| `K`    | objectives (rewards)              | `H`    | query heads     |
| `P`    | prompt tokens                     | `N`    | key/value heads |
| `T`    | completion tokens                 | `C`    | head width      |
| `L`    | layers                            | `F`    | feed-forward    |

Log-probabilities are in nats, lengths in tokens, durations in seconds and named `_seconds`.
This module starts no JAX: reward functions run in processes that have no use for it.
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
        text: what the tokenizer sees.
        reference: what the reward functions compare a completion with, such as the gold answer.
        index: the problem's number in its source.
        category: of the problem, such as a subject or the set it is from; evaluations report each.
    """

    text: str
    reference: Any
    index: int
    category: str = ""


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer to a prompt, as the reward functions see it.

    Attributes:
        text: the decoded tokens, without the stop token and without padding.
        token_ids: the tokens as they were sampled, the stop token included; never re-encoded.
        stopped: whether a stop token was sampled; false when the token limit cut the text off.
    """

    text: str
    token_ids: tuple[int, ...]
    stopped: bool

    @property
    def length(self) -> int:
        """Sampled tokens, the stop token included."""
        return len(self.token_ids)


class RewardFunction(Protocol):
    """Text in, number out; None where the objective does not apply to this completion."""

    def __call__(self, completion: Completion, reference: Any, /) -> float | None: ...


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def vocab_size(self) -> int:
        """How many token ids there are, from 0."""
        ...

    @property
    def pad_token(self) -> int:
        """What stands where there is no token."""
        ...

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Any of them ends a completion."""
        ...

    def encode(self, text: str, /) -> list[int]:
        """The tokens of a text, with nothing added."""
        ...

    def decode(self, token_ids: Sequence[int], /) -> str:
        """The text of the tokens; stop tokens and padding have none."""
        ...


@runtime_checkable
class Task(Protocol):
    """Prompts, a tokenizer, and the objectives a completion is scored on.

    A task is a frozen dataclass in one file; its fields are its knobs.
    """

    @property
    def name(self) -> str:
        """What a run and its files call it."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Of prompts and completions."""
        ...

    @property
    def max_prompt_length(self) -> int:
        """In tokens; prompts are padded to it."""
        ...

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Name to reward function, in the order of the reward vector's columns."""
        ...

    def prompts(self, split: str, /) -> Sequence[Prompt]:
        """The problems of "train" or "test"; the two share none."""
        ...


@runtime_checkable
class TaskWithDemonstrations(Task, Protocol):
    """A task that a policy can be shown before it is rewarded, in a warm start."""

    def demonstration(self, prompt: Prompt, generator: random.Random, /) -> str:
        """One completion of the prompt, whose randomness is the generator's."""
        ...


@runtime_checkable
class TaskWithAnswers(Task, Protocol):
    """A task whose completions give answers that can be compared, for a vote among them."""

    @property
    def answer_objective(self) -> str:
        """The objective that says whether an answer is right."""
        ...

    def answer(self, completion: Completion, /) -> str | None:
        """The answer in the one form that equal answers have; None where there is none."""
        ...


@runtime_checkable
class TaskWithAnswerSets(Task, Protocol):
    """A task whose completions hold several answers, each scored on the same objectives.

    Its objectives are those of one answer, named `OBJECTIVE/1`, then those of the next,
    `OBJECTIVE/2`; of a missing answer none applies.
    """

    @property
    def num_answers(self) -> int:
        """Answers of a completion that are scored."""
        ...


class Scores(NamedTuple):
    """What a scorer returns for a batch.

    Attributes:
        rewards: `[B, G, K]` float32, as the functions return them; 0 where `mask` is false.
        mask: `[B, G, K]` bool, false where an objective does not apply or its call failed.
        failures: objective -> number of its rewards that failed and were masked.
        messages: what to tell a person of them, a line each.
        measures: what else is to be known of the work, such as what it cost: name -> number.
    """

    rewards: np.ndarray
    mask: np.ndarray
    failures: Mapping[str, int]
    messages: Sequence[str]
    measures: Mapping[str, float] = MappingProxyType({})


class Scorer(Protocol):
    """What scores whole batches."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the columns it fills."""
        ...

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Every objective of `B` groups of `G` completions of `B` prompts."""
        ...


@runtime_checkable
class TaskWithScorer(Task, Protocol):
    """A task of which some objectives are scored by the batch, such as those a judge is asked for.

    They are columns behind those of `objectives`, which may be empty here.
    """

    @property
    def scored_objectives(self) -> tuple[str, ...]:
        """Names of the scorer's objectives, known without making it."""
        ...

    def scorer(self) -> Scorer:
        """A scorer of them, made once a run.

        Raises:
            UserError: it cannot be made here.
        """
        ...


@runtime_checkable
class TaskWithNotes(Task, Protocol):
    """A task with something to tell a person before it is used, such as prompts it left out."""

    def notes(self, split: str, /) -> Sequence[str]:
        """What there is to tell of "train" or "test", a line each."""
        ...


class PromptStream(Protocol):
    """A task's problems in an endless order, where a position says it all."""

    def take(self, positions: Iterable[int], /) -> list[Prompt]:
        """The problems at these positions, which begin at 0; they depend on nothing else."""
        ...


@runtime_checkable
class TaskWithStream(Task, Protocol):
    """A task that brings its problems into an order itself."""

    def stream(self, split: str, seed: int, /) -> PromptStream:
        """The problems of a split in a new order every epoch; the seed is of the orders."""
        ...


class Rollout(NamedTuple):
    """What the sampler returns: groups of completions, the stop token included.

    Attributes:
        tokens: `[B, G, T]` int32, padding after the end.
        mask: `[B, G, T]` bool, true on sampled tokens, the stop token included.
        logprobs: `[B, G, T]` float32, log-probability of each token under the distribution it was
            drawn from; 0 on padding.
        stopped: `[B, G]` bool, true where a stop token was sampled before the limit.
    """

    tokens: Array
    mask: Array
    logprobs: Array
    stopped: Array


class Experience(NamedTuple):
    """One step's data, from the sampler to the gradient; the group and the vector are kept.

    Attributes:
        prompt_tokens: `[B, P]` int32, padding on the right.
        prompt_lengths: `[B]` int32, in tokens.
        completion_tokens: `[B, G, T]` int32, padding on the right.
        completion_mask: `[B, G, T]` bool, true on sampled tokens, the stop token included.
        logprobs: `[B, G, T]` float32, the sampler's log-probability of each sampled token.
        rewards: `[B, G, K]` float32, one column per objective, as the reward functions return them.
        reward_mask: `[B, G, K]` bool, false where an objective does not apply or was not scored.
        packed: `[B, S]` int32 where learning packs a group's completions into one row, as
            `data.packing.pack` makes it; None where it takes them as a rectangle.
        turns: `[B, G, T]` int32 where a completion is an episode of several turns, see
            `learning.turns`: the turn that each token was sampled in, -1 on all others. Advantages
            are one for each turn then. None where a completion is one turn.
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
