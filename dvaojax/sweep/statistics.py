"""Statistics of a sweep: hypervolumes and means over seeds, with confidence intervals.

A method's front in a situation consists of the mean rewards of its trade-offs, one point each. All
values are first computed for each seed; intervals are over seeds, and estimate how much a mean
would change with other seeds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dvaojax.evaluation.intervals import Interval, bootstrap_mean
from dvaojax.evaluation.pareto import hypervolume
from dvaojax.sweep.directory import CellRow
from dvaojax.sweep.grid import CellKey, Sweep


class Front(NamedTuple):
    """Front of a method in a situation, for the seeds with results for every trade-off.

    Attributes:
        seeds: those seeds.
        points: `[seeds, trade-offs, K]` mean rewards on held-out problems.
    """

    seeds: tuple[int, ...]
    points: np.ndarray

    @property
    def volumes(self) -> np.ndarray:
        """`[seeds]` hypervolumes relative to rewards of 0; 1 for a policy with all rewards 1."""
        origin = np.zeros(self.points.shape[-1])
        return np.array([hypervolume(points, origin) for points in self.points])


class Finding(NamedTuple):
    """Results of a method in a situation.

    Attributes:
        seeds: number of seeds.
        volume: hypervolume of the front.
        gain: hypervolume minus that of the baseline `Sweep.against` for the same seeds; None for
            the baseline itself, and where they have no seed in common.
        means: `K` mean rewards over the trade-offs.
    """

    seeds: int
    volume: Interval
    gain: Interval | None
    means: Sequence[Interval]

    @property
    def verdict(self) -> str:
        """`+` or `-` where the interval of the gain excludes 0, else empty."""
        if self.gain is None or self.gain.low <= 0.0 <= self.gain.high:
            return ""
        return "+" if self.gain.low > 0.0 else "-"


Findings = Mapping[tuple[str, str], Finding]


def fronts(sweep: Sweep, rows: Mapping[CellKey, CellRow]) -> dict[tuple[str, str], Front]:
    """(situation, method) -> its front, where at least one seed is complete."""
    result = {}
    for situation in sweep.situations:
        for method in sweep.methods_in(situation):
            points = {}
            for seed in sweep.seeds:
                cells = [
                    CellKey(situation, seed, method, trade_off) for trade_off in sweep.trade_offs
                ]
                if all(key in rows for key in cells):
                    points[seed] = [_means(sweep, rows[key]) for key in cells]
            if points:
                result[situation, method] = Front(tuple(points), np.array(list(points.values())))
    return result


def findings(sweep: Sweep, rows: Mapping[CellKey, CellRow]) -> dict[tuple[str, str], Finding]:
    """(situation, method) -> its results."""
    measured = fronts(sweep, rows)
    return {
        (situation, method): Finding(
            seeds=len(front.seeds),
            volume=bootstrap_mean(front.volumes),
            gain=None
            if method == sweep.against
            else _gain(front, measured.get((situation, sweep.against))),
            means=[bootstrap_mean(values) for values in front.points.mean(axis=1).T],
        )
        for (situation, method), front in measured.items()
    }


def _gain(front: Front, other: Front | None) -> Interval | None:
    """Difference of hypervolumes, paired by seed, so that common effects of a seed cancel."""
    if other is None:
        return None
    other_volumes = dict(zip(other.seeds, other.volumes, strict=True))
    pairs = zip(front.seeds, front.volumes, strict=True)
    gains = [volume - other_volumes[seed] for seed, volume in pairs if seed in other_volumes]
    return bootstrap_mean(np.array(gains)) if gains else None


def _means(sweep: Sweep, row: CellRow) -> list[float]:
    return [row["after"][name] for name in sweep.objectives]
