"""Reward functions that score a completion's text, and the suite that runs them over a batch.

A reward function is `(completion, reference) -> float | None`, also as an `async def`; None means
that the objective does not apply. Bind keyword options with `functools.partial`. This package does
not import JAX.
"""

from dvaojax.rewards.answer_block import blocks as blocks
from dvaojax.rewards.answer_block import exact_answer as exact_answer
from dvaojax.rewards.answer_block import last_block as last_block
from dvaojax.rewards.answer_block import single_block_at_end as single_block_at_end
from dvaojax.rewards.calls import RewardError as RewardError
from dvaojax.rewards.length import conditioned as conditioned
from dvaojax.rewards.length import overlong_penalty as overlong_penalty
from dvaojax.rewards.length import overlong_penalty_verl as overlong_penalty_verl
from dvaojax.rewards.length import within_budget as within_budget
from dvaojax.rewards.length import without_stop_token as without_stop_token
from dvaojax.rewards.suite import RewardSuite as RewardSuite
from dvaojax.types import Scores as Scores
