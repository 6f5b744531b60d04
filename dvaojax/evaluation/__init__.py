"""Evaluation of policies: measures with intervals, Pareto fronts, and plots of runs."""

from dvaojax.evaluation.intervals import Interval as Interval
from dvaojax.evaluation.intervals import bootstrap_mean as bootstrap_mean
from dvaojax.evaluation.pareto import hypervolume as hypervolume
from dvaojax.evaluation.pareto import non_dominated as non_dominated
from dvaojax.evaluation.plots import plot_run as plot_run
from dvaojax.evaluation.plots import plot_runs as plot_runs
