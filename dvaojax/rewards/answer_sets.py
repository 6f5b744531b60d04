"""Completions that contain several answers, each of which is scored separately.

The answers are separated by a separator token. Such a task has the objectives of one answer once
for each answer: `accuracy/1`, `brevity/1`, `accuracy/2`, and so on (`for_each_answer`), in the
order that `aggregators.vpo` (arXiv 2605.22817) expects.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dvaojax.types import Completion, RewardFunction

Decode = Callable[[Sequence[int]], str]


def split_answers(completion: Completion, *, separator: int, decode: Decode) -> list[Completion]:
    """The answers in order of appearance; at least one, which may be empty.

    Separators and the stop token are not part of an answer. An answer counts as stopped if it is
    followed by a separator or the stop token.

    Args:
        completion: all answers.
        separator: the token between two answers.
        decode: maps tokens to text.
    """
    tokens = completion.token_ids
    runs: list[list[int]] = [[]]
    for token in tokens[: len(tokens) - completion.stopped]:
        if token == separator:
            runs.append([])
        else:
            runs[-1].append(token)
    return [
        Completion(
            decode(run), tuple(run), completion.stopped or i + 1 < len(runs), completion.scoring
        )
        for i, run in enumerate(runs)
    ]


def for_each_answer(
    objectives: Mapping[str, RewardFunction], *, num_answers: int, separator: int, decode: Decode
) -> dict[str, RewardFunction]:
    """Objectives of a completion from those of one answer: `NAME/1` for the first, and so on.

    Missing further answers are not scored; there is always a first. Answers after `num_answers`
    are ignored.

    Args:
        objectives: name -> reward of one answer.
        num_answers: number of answers that are scored.
        separator: the token between two answers.
        decode: maps tokens to text; must be picklable if worker processes are used.
    """
    return {
        f"{name}/{number}": partial(
            single_answer_reward, number=number, reward=reward, separator=separator, decode=decode
        )
        for number in range(1, num_answers + 1)
        for name, reward in objectives.items()
    }


def single_answer_reward(
    completion: Completion,
    reference: Any,
    /,
    *,
    number: int,
    reward: RewardFunction,
    separator: int,
    decode: Decode,
) -> float | None:
    """Reward of a single answer; None if there is no such answer.

    Args:
        completion: all answers.
        reference: passed on to the reward.
        number: of the answer, from 1.
        reward: the reward to compute for it.
        separator: the token between two answers.
        decode: maps tokens to text.
    """
    answers = split_answers(completion, separator=separator, decode=decode)
    return reward(answers[number - 1], reference) if number <= len(answers) else None
