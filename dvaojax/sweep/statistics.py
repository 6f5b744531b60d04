"""Statistics of a sweep: hypervolumes and means over seeds, with confidence intervals.

A method's front in a situation consists of the mean rewards of its trade-offs, one point each. All
values are first computed for each seed; intervals are over seeds, and estimate how much a mean
would change with other seeds. Verdicts are corrected for the number of comparisons of the sweep.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dvaojax.evaluation.comparisons import holm, paired_p_value
from dvaojax.evaluation.intervals import Interval, bootstrap_mean
from dvaojax.evaluation.pareto import hypervolume
from dvaojax.sweep.directory import CellRow
from dvaojax.sweep.grid import CellKey, Sweep

LEVEL = 0.05


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
        p_value: of Student's t-test that the gain is 0, adjusted for all comparisons of the sweep
            by Holm's method; 1 without a gain.
        means: `K` mean rewards over the trade-offs.
    """

    seeds: int
    volume: Interval
    gain: Interval | None
    p_value: float
    means: Sequence[Interval]

    @property
    def verdict(self) -> str:
        """`+` or `-` where the adjusted p-value of the gain is below 0.05, else empty."""
        if self.gain is None or self.p_value >= LEVEL:
            return ""
        return "+" if self.gain.mean > 0.0 else "-"


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
    gains = {
        key: _gains(front, measured.get((key[0], sweep.against)))
        for key, front in measured.items()
        if key[1] != sweep.against
    }
    gains = {key: values for key, values in gains.items() if values.size}
    p_values = holm([paired_p_value(values) for values in gains.values()])
    adjusted = dict(zip(gains, map(float, p_values), strict=True))
    return {
        key: Finding(
            seeds=len(front.seeds),
            volume=bootstrap_mean(front.volumes),
            gain=bootstrap_mean(gains[key]) if key in gains else None,
            p_value=adjusted.get(key, 1.0),
            means=[bootstrap_mean(values) for values in front.points.mean(axis=1).T],
        )
        for key, front in measured.items()
    }


def _gains(front: Front, other: Front | None) -> np.ndarray:
    """Differences of hypervolumes, paired by seed, so that common effects of a seed cancel."""
    others = {} if other is None else dict(zip(other.seeds, other.volumes, strict=True))
    pairs = zip(front.seeds, front.volumes, strict=True)
    return np.array([volume - others[seed] for seed, volume in pairs if seed in others])


def _means(sweep: Sweep, row: CellRow) -> list[float]:
    return [row["after"][name] for name in sweep.objectives]
