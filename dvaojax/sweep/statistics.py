"""What the cells of a sweep come to: volumes and means over seeds, with intervals.

A method's front in a situation is what its trade-offs reached, one point each. Everything is first
computed seed by seed; intervals are over seeds, and say how much a mean would move with others.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dvaojax.evaluation.intervals import Interval, bootstrap_mean
from dvaojax.evaluation.pareto import hypervolume
from dvaojax.sweep.grid import Place, Sweep
from dvaojax.sweep.record import Row


class Front(NamedTuple):
    """What one method reached in one situation, in the seeds where every trade-off was measured.

    Attributes:
        seeds: which those are.
        points: `[seeds, trade-offs, K]` mean rewards on held-out problems.
    """

    seeds: tuple[int, ...]
    points: np.ndarray

    @property
    def volumes(self) -> np.ndarray:
        """`[seeds]`, the hypervolume over rewards of 0: 1 for one policy that earns everything."""
        origin = np.zeros(self.points.shape[-1])
        return np.array([hypervolume(points, origin) for points in self.points])


class Finding(NamedTuple):
    """A method in a situation, in numbers.

    Attributes:
        seeds: how many.
        volume: hypervolume of the front.
        gain: hypervolume over that of the method it is held against, of the same seeds; None for
            that method itself, and where they share no seed.
        means: `K` mean rewards, over the trade-offs.
    """

    seeds: int
    volume: Interval
    gain: Interval | None
    means: Sequence[Interval]

    @property
    def verdict(self) -> str:
        """`+` or `-` where the gain's interval lies on one side of 0, else nothing."""
        if self.gain is None or self.gain.low <= 0.0 <= self.gain.high:
            return ""
        return "+" if self.gain.low > 0.0 else "-"


Findings = Mapping[tuple[str, str], Finding]


def fronts(sweep: Sweep, rows: Mapping[Place, Row]) -> dict[tuple[str, str], Front]:
    """(situation, method) -> its front, where at least one seed was measured in full."""
    found = {}
    for situation in sweep.situations:
        for method in sweep.methods_in(situation):
            points = {}
            for seed in sweep.seeds:
                cells = [
                    Place(situation, seed, method, trade_off) for trade_off in sweep.trade_offs
                ]
                if all(place in rows for place in cells):
                    points[seed] = [_means(sweep, rows[place]) for place in cells]
            if points:
                found[situation, method] = Front(tuple(points), np.array(list(points.values())))
    return found


def findings(sweep: Sweep, rows: Mapping[Place, Row]) -> dict[tuple[str, str], Finding]:
    """(situation, method) -> what it came to."""
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
    """The volume over another front's, seed by seed: what seeds have in common cancels."""
    if other is None:
        return None
    theirs = dict(zip(other.seeds, other.volumes, strict=True))
    pairs = zip(front.seeds, front.volumes, strict=True)
    gains = [volume - theirs[seed] for seed, volume in pairs if seed in theirs]
    return bootstrap_mean(np.array(gains)) if gains else None


def _means(sweep: Sweep, row: Row) -> list[float]:
    return [row["after"][name] for name in sweep.objectives]
