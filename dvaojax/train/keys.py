"""Random keys of a run: one per purpose, all derived from the configured seed."""

import enum

import jax
from jax import Array

from dvaojax.config import Config


class KeyPurpose(enum.IntEnum):
    """Purposes of a run's random keys; changing a value changes the numbers of every run."""

    PARAMETERS = 0
    STEPS = 1
    COMPLETIONS = 2
    EVALUATION = 3
    CANDIDATES = 4
    TRUSTED = 5
    PROJECTIONS = 6


def run_key(config: Config, purpose: KeyPurpose) -> Array:
    """The random key of a run for one purpose."""
    return jax.random.fold_in(jax.random.key(config.seed), int(purpose))
