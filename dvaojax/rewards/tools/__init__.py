"""Rewards for tool calls in ToolRL's format: a thought, then calls or a response in words.

The reference of all of them is the gold answer's text (see `blocks`). Rewards for the Berkeley
function calling leaderboard are in `tools.bfcl`.
"""

from dvaojax.rewards.tools.blocks import ToolCall as ToolCall
from dvaojax.rewards.tools.blocks import gold_calls as gold_calls
from dvaojax.rewards.tools.blocks import tool_calls as tool_calls
from dvaojax.rewards.tools.blocks import wants_calls as wants_calls
from dvaojax.rewards.tools.correctness import correctness as correctness
from dvaojax.rewards.tools.correctness import exact_match as exact_match
from dvaojax.rewards.tools.correctness import graded as graded
from dvaojax.rewards.tools.correctness import names as names
from dvaojax.rewards.tools.correctness import parameter_names as parameter_names
from dvaojax.rewards.tools.correctness import toolrl_correctness as toolrl_correctness
from dvaojax.rewards.tools.correctness import values as values
from dvaojax.rewards.tools.layout import layout as layout
from dvaojax.rewards.tools.layout import toolrl_format as toolrl_format
