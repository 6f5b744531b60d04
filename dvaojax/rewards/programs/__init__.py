"""Rewards for programs: tests run in separate processes with limits on all resources."""

from dvaojax.rewards.programs.extraction import extract_program as extract_program
from dvaojax.rewards.programs.problems import Problem as Problem
from dvaojax.rewards.programs.problems import from_assertions as from_assertions
from dvaojax.rewards.programs.problems import from_check as from_check
from dvaojax.rewards.programs.sandbox import Limits as Limits
from dvaojax.rewards.programs.sandbox import SandboxError as SandboxError
from dvaojax.rewards.programs.sandbox import Verdict as Verdict
from dvaojax.rewards.programs.tests_passed import all_passed as all_passed
from dvaojax.rewards.programs.tests_passed import one_passed as one_passed
from dvaojax.rewards.programs.tests_passed import share_passed as share_passed
