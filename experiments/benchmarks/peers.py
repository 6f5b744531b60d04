"""Shared code of the peers' scripts: reading the workload, and timing of the reward functions."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from words import REWARDS
from workload import WARM_UP, Workload


def parse(description: str | None) -> tuple[Workload, int]:
    """The workload and the number of micro-batches, from a script's command line."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("workload", type=Path)
    parser.add_argument("--micro-batches", type=int, default=1)
    arguments = parser.parse_args()
    return Workload.load(arguments.workload), arguments.micro_batches


class RewardClock:
    """Records when rewards are requested and returned, which separates rollout from update.

    Attributes:
        requested: seconds, one per step; sampling has ended.
        returned: seconds, one per step; learning begins.
        sampled_tokens: of each step, as counted by the peer.
    """

    def __init__(self):
        self.requested: list[float] = []
        self.returned: list[float] = []
        self.sampled_tokens: list[int] = []

    def rewards(self, count_tokens: Callable[..., int]) -> list[Callable[..., list[float]]]:
        """The reward functions in the form of both peers; the first and the last record the time.

        Args:
            count_tokens: number of sampled tokens, from the arguments of a reward function.
        """

        def first(prompts, completions, **columns):
            self.requested.append(time.perf_counter())
            self.sampled_tokens.append(count_tokens(completions=completions, **columns))
            return [REWARDS[0](text) for text in completions]

        def last(prompts, completions, **_):
            scores = [REWARDS[1](text) for text in completions]
            self.returned.append(time.perf_counter())
            return scores

        return [first, last]

    def seconds(self, begins: list[float], ends: list[float]) -> Mapping[str, list[float]]:
        """Seconds of each part of the timed steps, with the names of `our_step.py`.

        Args:
            begins: when the sampling of each step began.
            ends: when the update of each step ended.
        """
        parts = {
            "rollout_seconds": np.subtract(self.requested, begins),
            "reward_seconds": np.subtract(self.returned, self.requested),
            "train_seconds": np.subtract(ends, self.returned),
        }
        return {name: seconds[WARM_UP:].tolist() for name, seconds in parts.items()}
