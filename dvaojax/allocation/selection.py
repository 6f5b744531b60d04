"""Rounds of problems that are chosen among candidates, by `gradalign`.

Before each round, groups of completions are sampled for the next `candidates` problems of the
training stream, and for the trusted ones; `gradalign` scores the candidates, and the best `chosen`
are trained on for `every` steps, in a new random order each time they are used up.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    """How problems are chosen before they are trained on, with `allocation.name=gradalign`.

    The paper scores 5,120 candidates with 128 completions each, keeps one in 20 and trains on these
    for 10 steps of 128 problems. Here candidates and trusted problems have groups of `group_size`
    completions. Each round costs the sampling and the gradients of `candidates` + `trusted` groups.

    Attributes:
        candidates: problems that are scored before a round; a multiple of `prompts_per_step`.
        chosen: problems of them that the round trains on.
        every: steps of a round.
        trusted: problems whose gradients are the direction to agree with: the last ones of the
            task's test split, which the evaluation must leave out; a multiple of
            `prompts_per_step`.
        dimension: numbers that are kept of a gradient, see `learning.projected_gradients`; the
            standard error of a cosine near 0 is the inverse of its square root.
        groups_at_once: groups whose full gradients a device holds at once.
        zero_advantage: a candidate whose advantages are all below it in size has alignment 0. The
            official code ranks with 1e-6, and skips completions below 1e-3 in one place.

    Raises:
        ValueError: a number is below its minimum, or more problems are chosen than scored.
    """

    candidates: int = 256
    chosen: int = 64
    every: int = 10
    trusted: int = 32
    dimension: int = 4096
    groups_at_once: int = 1
    zero_advantage: float = 1e-6

    def __post_init__(self):
        for name in (field.name for field in dataclasses.fields(self)):
            minimum = 0 if name in ("trusted", "zero_advantage") else 1
            if not getattr(self, name) >= minimum:
                value = getattr(self, name)
                raise ValueError(f"allocation.selection.{name}={value} must be at least {minimum}")
        if self.chosen > self.candidates:
            raise ValueError(
                f"allocation.selection.chosen={self.chosen} must not exceed "
                f"allocation.selection.candidates={self.candidates}"
            )


@dataclasses.dataclass(frozen=True)
class Rounds:
    """The problem at each position of a run whose problems are chosen in rounds.

    Attributes:
        positions_per_round: steps of a round times problems of a step.
        seed: of the order of the problems within a round.
    """

    positions_per_round: int
    seed: int

    def number(self, position: int) -> int:
        """The round, from 0, that a position of the run belongs to."""
        return position // self.positions_per_round

    def sources(self, chosen: np.ndarray, positions: Sequence[int]) -> tuple[int, ...]:
        """The positions in the training stream of the problems at positions of the run.

        Args:
            chosen: `[R, N]` int, for each round the positions in the stream of its problems.
            positions: of the run.
        """
        return tuple(int(self._source(chosen, position)) for position in positions)

    def _source(self, chosen: np.ndarray, position: int) -> np.integer:
        number, offset = divmod(position, self.positions_per_round)
        epoch, index = divmod(offset, chosen.shape[1])
        order = np.random.default_rng([self.seed, number, epoch]).permutation(chosen.shape[1])
        return chosen[number, order[index]]
