"""Text to numbers: the rules that score a completion, and the suite that runs them.

A reward function is `(completion, reference) -> float | None`; None says that the objective does
not apply. Knobs are bound with `functools.partial`. This room starts no JAX.
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
