"""Rewards for function calls, as the Berkeley function calling leaderboard (v4) judges one turn."""

from dvaojax.rewards.tools.bfcl.call_check import fault as fault
from dvaojax.rewards.tools.bfcl.parsing import CallParser as CallParser
from dvaojax.rewards.tools.bfcl.parsing import FunctionCall as FunctionCall
from dvaojax.rewards.tools.bfcl.parsing import attempts_call as attempts_call
from dvaojax.rewards.tools.bfcl.parsing import json_calls as json_calls
from dvaojax.rewards.tools.bfcl.parsing import native_calls as native_calls
from dvaojax.rewards.tools.bfcl.parsing import python_calls as python_calls
from dvaojax.rewards.tools.bfcl.parsing import toolrl_calls as toolrl_calls
from dvaojax.rewards.tools.bfcl.problem import FunctionProblem as FunctionProblem
from dvaojax.rewards.tools.bfcl.rewards import ast_match as ast_match
from dvaojax.rewards.tools.bfcl.rewards import complete as complete
from dvaojax.rewards.tools.bfcl.rewards import leaderboard_match as leaderboard_match
from dvaojax.rewards.tools.bfcl.rewards import names as names
from dvaojax.rewards.tools.bfcl.rewards import types as types
from dvaojax.rewards.tools.bfcl.rewards import values as values

Decoder = CallParser
"""Earlier name of `CallParser`."""
