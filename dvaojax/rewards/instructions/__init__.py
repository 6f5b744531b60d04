"""Rewards for following verifiable instructions, as in IFEval.

Checks of languages and sentences need the extra `ifeval`; it is imported when first used.
"""

from dvaojax.rewards.instructions.instruction import CHECKS as CHECKS
from dvaojax.rewards.instructions.instruction import Instruction as Instruction
from dvaojax.rewards.instructions.instruction import instructions as instructions
from dvaojax.rewards.instructions.scoring import FollowRule as FollowRule
from dvaojax.rewards.instructions.scoring import all_followed as all_followed
from dvaojax.rewards.instructions.scoring import followed as followed
from dvaojax.rewards.instructions.scoring import ifeval_loosely as ifeval_loosely
from dvaojax.rewards.instructions.scoring import ifeval_strictly as ifeval_strictly
from dvaojax.rewards.instructions.scoring import loosely as loosely
from dvaojax.rewards.instructions.scoring import share_followed as share_followed
from dvaojax.rewards.instructions.scoring import strictly as strictly

Rule = FollowRule
"""Earlier name of `FollowRule`."""
