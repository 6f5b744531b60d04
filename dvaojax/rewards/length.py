"""Rewards that look at the length: budgets, DAPO's overlong shaping, brevity that has to be right.

A length is counted in tokens as they were sampled (`Completion.length`), so that the stop token is
one of them; verl and TRL count the same way. `without_stop_token` turns any of these rewards into
one that does not count it.
"""

import dataclasses
from typing import Any

from dvaojax.types import Completion, RewardFunction


def within_budget(completion: Completion, reference: Any, /, *, budget: int) -> float:
    """1 where the completion takes at most `budget` tokens, the budget included; else 0.

    An answer of `budget` tokens and a stop token is over the budget. The length reward of DVAO
    (arXiv:2605.25604, 4,000 tokens) and of GDPO (arXiv:2601.05242), which does not ask whether the
    answer is right or whether the completion came to an end.

    Args:
        completion: the answer.
        reference: not read.
        budget: in tokens.
    """
    return float(completion.length <= budget)


def overlong_penalty(
    completion: Completion, reference: Any, /, *, max_length: int, buffer: int
) -> float:
    """DAPO's soft overlong punishment: 0, then a ramp of `buffer` tokens, then -1; in [-1, 0].

    With n tokens, 0 for n <= max_length - buffer; (max_length - buffer - n) / buffer up to
    `max_length`, the end included; -1 above. Equation 13 of arXiv:2503.14476, where the limit is
    20,480 and the buffer 4,096, as TRL computes it (`get_soft_overlong_punishment`). DAPO adds it
    to the reward for the answer; as an objective of its own it is constant in most groups.

    Args:
        completion: the answer.
        reference: not read.
        max_length: in tokens; longer costs the full penalty.
        buffer: tokens before the limit in which the penalty grows; 0 is a bare step.

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
    """DAPO's overlong punishment as verl's reward manager adds it, which has no floor.

    min(0, -(n - (max_length - buffer)) / buffer * penalty_factor). It differs from
    `overlong_penalty` above `max_length` only, where it goes on falling below -1. verl divides by
    a buffer of 0 and gets infinity or no number; here it is refused. (volcengine/verl b178a3cd.)

    Args:
        completion: the answer.
        reference: not read.
        max_length: in tokens.
        buffer: tokens before the limit in which the penalty starts.
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
    """Another reward, for a completion whose stop token does not count.

    Both lengths are in use and papers do not say which; they differ by one token, and only where
    the completion came to an end. Ours, to compute either.

    Args:
        completion: the answer.
        reference: passed on.
        reward: what to compute, such as `partial(within_budget, budget=4_000)`.
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
    """The easy reward where the hard one reaches the threshold, else 0.

    GDPO's conditioned reward (arXiv:2601.05242): `partial(conditioned, easy=partial(within_budget,
    budget=4_000), hard=accuracy)` pays for brevity in right answers alone. Not a mask: a wrong
    answer earns 0 and stays in the group's statistics. Where one of the two does not apply, this
    one does not either.

    Args:
        completion: the answer.
        reference: of both rewards.
        easy: what is paid, such as a length or a format.
        hard: what has to be reached first; usually another objective of the same task.
        threshold: of the hard reward, included. The paper leaves it open for graded rewards.
    """
    earned = hard(completion, reference)
    paid = easy(completion, reference)
    if earned is None or paid is None:
        return None
    return paid if earned >= threshold else 0.0
