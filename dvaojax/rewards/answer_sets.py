"""Completions that hold several answers, each of which is scored by itself.

The answers stand between separator tokens. The objectives of such a task are those of one answer,
once for each: `accuracy/1`, `brevity/1`, `accuracy/2`, and so on (`for_each_answer`); that is the
order in which `aggregators.vpo` (arXiv 2605.22817) reads them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dvaojax.types import Completion, RewardFunction

Decode = Callable[[Sequence[int]], str]


def split_answers(completion: Completion, *, separator: int, decode: Decode) -> list[Completion]:
    """The answers in the order in which they stand; at least one, which may be empty.

    Neither separators nor the stop token are tokens of an answer. An answer counts as stopped if
    a separator or the stop token ends it.

    Args:
        completion: all of them.
        separator: the token between two answers.
        decode: tokens to text.
    """
    tokens = completion.token_ids
    runs: list[list[int]] = [[]]
    for token in tokens[: len(tokens) - completion.stopped]:
        if token == separator:
            runs.append([])
        else:
            runs[-1].append(token)
    return [
        Completion(decode(run), tuple(run), completion.stopped or i + 1 < len(runs))
        for i, run in enumerate(runs)
    ]


def for_each_answer(
    objectives: Mapping[str, RewardFunction], *, num_answers: int, separator: int, decode: Decode
) -> dict[str, RewardFunction]:
    """The objectives of one answer as those of a completion: `NAME/1` of the first, and so on.

    A further answer that is missing is not scored; the first is always there. Answers beyond
    `num_answers` earn nothing.

    Args:
        objectives: name -> reward of one answer.
        num_answers: how many are scored.
        separator: the token between two answers.
        decode: tokens to text; a function that worker processes can be sent, if there are any.
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
    """A reward of one answer alone; None where there is no such answer.

    Args:
        completion: all answers.
        reference: passed on.
        number: of the answer, from 1.
        reward: what to compute for it.
        separator: the token between two answers.
        decode: tokens to text.
    """
    answers = split_answers(completion, separator=separator, decode=decode)
    return reward(answers[number - 1], reference) if number <= len(answers) else None
