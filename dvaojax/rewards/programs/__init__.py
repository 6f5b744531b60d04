"""Rewards for programs: tests run in sandboxes with limits on all resources."""

from dvaojax.rewards.programs.bubblewrap import SandboxError as SandboxError
from dvaojax.rewards.programs.extraction import extract_program as extract_program
from dvaojax.rewards.programs.limits import Limits as Limits
from dvaojax.rewards.programs.problems import Problem as Problem
from dvaojax.rewards.programs.problems import from_assertions as from_assertions
from dvaojax.rewards.programs.problems import from_check as from_check
from dvaojax.rewards.programs.scorer import ProgramScorer as ProgramScorer
from dvaojax.rewards.programs.scorer import objectives_of_tests as objectives_of_tests
from dvaojax.rewards.programs.settings import WITHOUT_SANDBOX as WITHOUT_SANDBOX
from dvaojax.rewards.programs.settings import ProgramsConfig as ProgramsConfig
from dvaojax.rewards.programs.tests_passed import all_passed as all_passed
from dvaojax.rewards.programs.tests_passed import one_passed as one_passed
from dvaojax.rewards.programs.tests_passed import share_passed as share_passed
from dvaojax.rewards.programs.trials import Verdict as Verdict
