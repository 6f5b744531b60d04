"""Progress of a method in a regime, seed by seed, at an equal and at a tuned step."""

import dataclasses
from typing import NamedTuple

import numpy as np
from tabular import cells, measures
from tabular.axes import Regime

from dvaojax.errors import UserError

AGAINST = "dvao"
METHODS = (
    "dvao",
    "reward_combination",
    "advantage_combination",
    "gdpo",
    "dr_grpo",
    "dvao_shrunk",
    "rvpo",
    "corr_gdpo",
    "james_stein",
)


@dataclasses.dataclass(frozen=True)
class Design:
    """Settings shared by all regimes.

    Attributes:
        num_seeds: each with its own table and draws; fewer than 125, or a multiple of it.
        num_tuning_seeds: for the choice of the tuned rate; disjoint from the other seeds.
        rate: learning rate of the step "equal".
        rates: candidates for the step "tuned", an even number.
    """

    num_seeds: int = 250
    num_tuning_seeds: int = 125
    rate: float = 0.8
    rates: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0)

    def __post_init__(self):
        """Refuses numbers of seeds that cannot be split, and fewer than a comparison needs."""
        chunk = cells.SEEDS_AT_ONCE
        if self.num_seeds < 2 or (self.num_seeds > chunk and self.num_seeds % chunk):
            raise UserError(f"{self.num_seeds} seeds: from 2 to {chunk}, or a multiple of it")

    @property
    def seeds(self) -> np.ndarray:
        """`[S]`."""
        return np.arange(self.num_seeds, dtype=np.int32)

    @property
    def tuning_seeds(self) -> np.ndarray:
        """Seeds that are not among `seeds`."""
        return 1_000_000 + np.arange(self.num_tuning_seeds, dtype=np.int32)


class Outcome(NamedTuple):
    """The runs of one method in one regime.

    Attributes:
        equal: `[S]` progress if the advantages of each step have the mean square 1.
        tuned: `[S]` progress with the advantages as they are, at the best rate.
        rate: `[]` that rate.
    """

    equal: np.ndarray
    tuned: np.ndarray
    rate: np.ndarray


def compute(name: str, regime: Regime, design: Design) -> Outcome:
    """The outcome of a method, a key of `aggregators.METHODS`."""
    candidates = np.reshape(design.rates, (-1, 2))
    means = [_progress(name, regime, design.tuning_seeds, pair, False) for pair in candidates]
    rate = design.rates[int(np.argmax(np.concatenate(means, axis=1).mean(axis=0)))]
    # The same program for both steps, which takes two settings at once.
    both = np.array([design.rate, rate])
    equal, tuned = _progress(name, regime, design.seeds, both, np.array([True, False])).T
    return Outcome(equal, tuned, np.array(rate))


def _progress(
    name: str, regime: Regime, seeds: np.ndarray, rates: np.ndarray, is_equalised: np.ndarray | bool
) -> np.ndarray:
    """`[S, 2]` progress at two rates."""
    weights = np.tile(regime.weights, (2, 1))
    equalised = np.broadcast_to(is_equalised, 2)
    values = cells.runs(name, regime.variant, seeds, weights, rates, equalised, regime.size)[0]
    return measures.progress(values, weights, measures.ends(regime.variant, seeds, weights))
