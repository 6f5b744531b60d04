"""A judge model on a server with OpenAI's chat-completions protocol."""

from dvaojax.rewards.judge.batches import BatchedJudge as BatchedJudge
from dvaojax.rewards.judge.batches import JudgedBatch as JudgedBatch
from dvaojax.rewards.judge.client import Judge as Judge
from dvaojax.rewards.judge.client import JudgeAnswer as JudgeAnswer
from dvaojax.rewards.judge.client import JudgeConfig as JudgeConfig
from dvaojax.rewards.judge.client import Usage as Usage

Answer = JudgeAnswer
"""Earlier name of `JudgeAnswer`."""
