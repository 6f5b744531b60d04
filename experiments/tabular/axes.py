"""Regimes of the bandit: one property is varied at a time, at two correlations."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from tabular.learning import Size
from tabular.problem import Variant

LINES = (-0.6, 0.0)  # correlations with the first objective
OBJECTIVES_OF_LINES = (2, 3, 8)  # where the correlation itself is varied
AXES: Mapping[str, Sequence[float]] = {
    "correlation": (-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9),
    "objectives": (2, 3, 5, 8),
    "noise": (0.0, 0.25, 0.5, 1.0, 2.0),
    "group size": (4, 8, 16, 64),
    "weight": (1 / 3, 0.5, 0.7, 0.9, 0.97),
}


class Regime(NamedTuple):
    """A family of tables, and the size and the weights of the runs on it.

    Attributes:
        correlation: of the first objective with each of the others, in skill and in fit; that of
            two others is its square.
        num_objectives: K.
        noise: standard deviation of the noise on the last reward.
        group_size: G.
        weight: of the first objective; the others share the rest.
    """

    correlation: float = 0.0
    num_objectives: int = 3
    noise: float = 0.0
    group_size: int = 8
    weight: float = 1 / 3

    @property
    def name(self) -> str:
        """Its parameters, as a name of a file."""
        return "_".join(f"{letter}{value:.3g}" for letter, value in zip("rKnGw", self, strict=True))

    @property
    def weights(self) -> np.ndarray:
        """`[K]`, with the sum 1."""
        others = self.num_objectives - 1
        return np.array([self.weight] + [(1 - self.weight) / others] * others)

    @property
    def size(self) -> Size:
        """Numbers of steps, prompts, completions and objectives."""
        return Size(group_size=self.group_size, num_objectives=self.num_objectives)

    @property
    def variant(self) -> Variant:
        """Of the tables."""
        others = self.num_objectives - 1
        zeros, ones = jnp.zeros(self.num_objectives), jnp.ones(self.num_objectives)
        return Variant(
            correlation=jnp.array([1.0] + [self.correlation] * others),
            difficulty=zeros,
            variety=ones,
            scale=ones,
            noise=zeros.at[-1].set(self.noise),
        )


class Point(NamedTuple):
    """A point of a line of a panel of the figure.

    Attributes:
        axis: the varied property, a key of `AXES`.
        line: the fixed one: a correlation, or a number of objectives on the axis "correlation".
        value: of the varied property.
        regime: the regime.
    """

    axis: str
    line: float
    value: float
    regime: Regime


def points() -> list[Point]:
    """All points; some regimes are points of several axes."""
    return [
        Point(axis, line, value, regime_of(axis, line, value))
        for axis, values in AXES.items()
        for line in (OBJECTIVES_OF_LINES if axis == "correlation" else LINES)
        for value in values
    ]


def regime_of(axis: str, line: float, value: float) -> Regime:
    """The regime of a point."""
    if axis == "correlation":
        return _equal(Regime(value, int(line)))
    if axis == "objectives":
        return _equal(Regime(line, int(value)))
    if axis == "noise":
        return Regime(line, noise=value)
    if axis == "group size":
        return Regime(line, group_size=int(value))
    return Regime(line, weight=value)


def _equal(regime: Regime) -> Regime:
    return regime._replace(weight=1 / regime.num_objectives)
