"""What a run achieved: intervals, Pareto fronts and pictures."""

from dvaojax.evaluation.intervals import Interval, bootstrap_mean
from dvaojax.evaluation.pareto import hypervolume, non_dominated
from dvaojax.evaluation.plots import plot_run, plot_runs

__all__ = [
    "Interval",
    "bootstrap_mean",
    "hypervolume",
    "non_dominated",
    "plot_run",
    "plot_runs",
]
