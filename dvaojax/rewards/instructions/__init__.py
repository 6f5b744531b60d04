"""Rewards for following instructions that a program can check, as IFEval lists them.

Languages and sentences need the extra `ifeval`; it is loaded when the first of them is checked.
"""

from dvaojax.rewards.instructions.following import Rule as Rule
from dvaojax.rewards.instructions.following import all_followed as all_followed
from dvaojax.rewards.instructions.following import followed as followed
from dvaojax.rewards.instructions.following import ifeval_loosely as ifeval_loosely
from dvaojax.rewards.instructions.following import ifeval_strictly as ifeval_strictly
from dvaojax.rewards.instructions.following import loosely as loosely
from dvaojax.rewards.instructions.following import share_followed as share_followed
from dvaojax.rewards.instructions.following import strictly as strictly
from dvaojax.rewards.instructions.instruction import CHECKS as CHECKS
from dvaojax.rewards.instructions.instruction import Instruction as Instruction
from dvaojax.rewards.instructions.instruction import instructions as instructions
