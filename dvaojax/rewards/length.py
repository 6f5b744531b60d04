"""Length rewards: token budgets, DAPO's overlong penalty, and brevity of correct answers.

A length is the number of sampled tokens (`Completion.length`) and includes the stop token, as in
verl and TRL. `without_stop_token` turns each of these rewards into one that does not count it.
"""

import dataclasses
from typing import Any

from dvaojax.types import Completion, RewardFunction


def within_budget(completion: Completion, reference: Any, /, *, budget: int) -> float:
    """1 if the completion has at most `budget` tokens, else 0.

    An answer of `budget` tokens followed by a stop token exceeds the budget. The length reward of
    DVAO (arXiv:2605.25604, 4,000 tokens) and of GDPO (arXiv:2601.05242). It depends neither on the
    answer's correctness nor on whether the completion ended with a stop token.

    Args:
        completion: the answer.
        reference: not read.
        budget: in tokens, inclusive.
    """
    return float(completion.length <= budget)


def overlong_penalty(
    completion: Completion, reference: Any, /, *, max_length: int, buffer: int
) -> float:
    """DAPO's soft overlong punishment: 0, then a ramp of `buffer` tokens, then -1; in [-1, 0].

    With n tokens: 0 for n <= max_length - buffer; (max_length - buffer - n) / buffer for n <=
    max_length; -1 above. Equation 13 of arXiv:2503.14476, where the limit is 20,480 and the buffer
    4,096, as computed by TRL (`get_soft_overlong_punishment`). DAPO adds it to the reward for the
    answer; as a separate objective it is constant in most groups.

    Args:
        completion: the answer.
        reference: not read.
        max_length: in tokens; longer completions get the full penalty.
        buffer: tokens before the limit over which the penalty grows; 0 gives a step.

    Raises:
        ValueError: a buffer that is negative or longer than `max_length`.
    """
    if not 0 <= buffer <= max_length:
        raise ValueError(f"buffer={buffer} must lie between 0 and max_length={max_length}")
    over = completion.length - (max_length - buffer)
    if over <= 0:
        return 0.0
    return -1.0 if completion.length > max_length else -over / buffer


def overlong_penalty_verl(
    completion: Completion,
    reference: Any,
    /,
    *,
    max_length: int,
    buffer: int,
    penalty_factor: float = 1.0,
) -> float:
    """DAPO's overlong punishment as in verl's reward manager, without a lower bound.

    min(0, -(n - (max_length - buffer)) / buffer * penalty_factor). It differs from
    `overlong_penalty` only above `max_length`, where it continues to fall below -1. With a buffer
    of 0 verl divides by zero; here that is an error. (volcengine/verl b178a3cd.)

    Args:
        completion: the answer.
        reference: not read.
        max_length: in tokens.
        buffer: tokens before the limit over which the penalty grows.
        penalty_factor: the penalty at the limit.

    Raises:
        ValueError: a buffer that is not positive or longer than `max_length`.
    """
    if not 0 < buffer <= max_length:
        raise ValueError(f"buffer={buffer} must lie between 1 and max_length={max_length}")
    over = completion.length - (max_length - buffer)
    return min(0.0, -over / buffer * penalty_factor)


def without_stop_token(
    completion: Completion, reference: Any, /, *, reward: RewardFunction
) -> float | None:
    """Another reward of the same completion without its stop token.

    Both definitions of length are in use and papers do not say which; they differ by one token,
    and only for completions that ended with a stop token. Ours, to compute either.

    Args:
        completion: the answer.
        reference: passed on to the reward.
        reward: the reward to compute, such as `partial(within_budget, budget=4_000)`.
    """
    if completion.stopped:
        completion = dataclasses.replace(completion, token_ids=completion.token_ids[:-1])
    return reward(completion, reference)


def conditioned(
    completion: Completion,
    reference: Any,
    /,
    *,
    easy: RewardFunction,
    hard: RewardFunction,
    threshold: float = 1.0,
) -> float | None:
    """The easy reward if the hard one reaches the threshold, else 0.

    GDPO's conditioned reward (arXiv:2601.05242): `partial(conditioned, easy=partial(within_budget,
    budget=4_000), hard=accuracy)` rewards brevity in correct answers only. This is not a mask: a
    wrong answer gets 0 and counts in the group's statistics. None if one of the two rewards does
    not apply.

    Args:
        completion: the answer.
        reference: passed on to both rewards.
        easy: the reward that is returned, such as length or format.
        hard: the reward that has to be reached first; usually another objective of the task.
        threshold: of the hard reward, inclusive. The paper leaves it open for graded rewards.
    """
    hard_reward = hard(completion, reference)
    easy_reward = easy(completion, reference)
    if hard_reward is None or easy_reward is None:
        return None
    return easy_reward if hard_reward >= threshold else 0.0
