"""Rewards that look at the length alone."""

from typing import Any

from dvaojax.types import Completion


def within_budget(completion: Completion, reference: Any, /, *, budget: int) -> float:
    """1 where the completion takes at most `budget` tokens, the budget included; else 0.

    Tokens are counted as they were sampled, so that the stop token is one of them and an answer of
    `budget` tokens and a stop token is over the budget; verl and TRL count the same way. The length
    reward of DVAO (arXiv:2605.25604, 4,000 tokens) and of GDPO (arXiv:2601.05242), which does not
    ask whether the answer is right or whether the completion came to an end.

    Args:
        completion: the answer.
        reference: not read.
        budget: in tokens.
    """
    return float(completion.length <= budget)
