"""Reference answers of a step's problems as tokens, and where a completion's reasoning ends."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dvaojax.types import Completion, Prompt, Scores, Task, Tokenizer

END_OF_REASONING = "</think>"
"""The tag after which a completion is no longer reasoning; without it all of it is."""


def reference_text(reference: Any) -> str | None:
    """A reference as the text of an answer; None if it is neither text nor a number."""
    return str(reference) if isinstance(reference, str | int | float) else None


def _encoded(tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The tokens of each reference; none of one that is neither text nor a number."""
    texts = [reference_text(prompt.reference) for prompt in prompts]
    return [[] if text is None else tokenizer.encode(text) for text in texts]


def reference_width(task: Task) -> int:
    """Tokens of the longest reference of the task's training problems, at least 1."""
    return max(1, *map(len, _encoded(task.tokenizer, task.prompts("train"))))


def encode_references(
    tokenizer: Tokenizer, prompts: Sequence[Prompt], *, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The reference answers of some problems.

    Args:
        tokenizer: of the task.
        prompts: the `S` problems.
        width: L, from `reference_width`.

    Returns:
        `[S, L]` int32, padding on the right, and `[S, L]` bool, true on tokens.
    """
    encoded = _encoded(tokenizer, prompts)
    tokens = np.full((len(prompts), width), tokenizer.pad_token, np.int32)
    where = np.zeros(tokens.shape, bool)
    for row, answer in enumerate(encoded):
        tokens[row, : len(answer)] = answer
        where[row, : len(answer)] = True
    return tokens, where


def reasoning_length(tokenizer: Tokenizer, completion: Completion) -> int:
    """Number of leading tokens that are reasoning: up to the tag, or all but the stop token.

    Args:
        tokenizer: of the task.
        completion: a completion.
    """
    most = completion.length - int(completion.stopped)
    if END_OF_REASONING not in completion.text:
        return most
    low, high = 0, most  # the fewest tokens whose text has the tag, by bisection
    while low < high:
        middle = (low + high) // 2
        if END_OF_REASONING in tokenizer.decode(completion.token_ids[:middle]):
            high = middle
        else:
            low = middle + 1
    return low


def reasoning_lengths(
    tokenizer: Tokenizer, completions: Sequence[Sequence[Completion]], group_size: int
) -> np.ndarray:
    """`[S, G]` int32, `reasoning_length` of each completion of some groups; 0 where there is none.

    Args:
        tokenizer: of the task.
        completions: of each group, `G` or fewer.
        group_size: G.
    """
    lengths = np.zeros((len(completions), group_size), np.int32)
    for row, group in enumerate(completions):
        lengths[row, : len(group)] = [reasoning_length(tokenizer, c) for c in group]
    return lengths


@dataclasses.dataclass(frozen=True)
class FilledByTheStep:
    """A scorer of objectives whose rewards the train step computes; here all are masked.

    Attributes:
        objectives: their names.
    """

    objectives: tuple[str, ...]

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """No reward for `B` groups of `G` completions."""
        shape = (len(prompts), len(completions[0]), len(self.objectives))
        rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        return Scores(rewards, mask, dict.fromkeys(self.objectives, 0), [])
