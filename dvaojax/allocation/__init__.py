"""Rules that distribute the completions of a step over its problems.

    from dvaojax.allocation import allocate, neyman

A rule maps the statistics of each problem of a step (`ProblemStatistics`) to its number of
completions: integers between a floor and a cap that add up to the budget. They are sampled as
groups of unequal size, with a mask at the end of the smaller groups, so that array shapes do not
depend on them. One rule, `gradalign`, chooses the problems of the next steps instead, among
candidates. The rules are NumPy functions that run on the host between two steps; none of them
starts JAX.

To add a rule:

1. Write its file in this package, a function
   `my_rule(statistics, weights, *, budget, floor, cap, ...)`. Further keyword-only parameters are
   its knobs.
2. Add its import line and its row in `methods.py`.

It can then be imported from here and selected by `allocation=my_rule`; `dvaojax methods` lists
and explains it.
"""

from dvaojax.allocation.config import COUNTS as COUNTS
from dvaojax.allocation.config import AllocationConfig as AllocationConfig
from dvaojax.allocation.gradalign import MODES as MODES
from dvaojax.allocation.gradalign import cosines as cosines
from dvaojax.allocation.methods import *  # noqa: F403  (the functions of the table)
from dvaojax.allocation.rules import BY_NAME as BY_NAME
from dvaojax.allocation.rules import AllocationRule as AllocationRule
from dvaojax.allocation.rules import check_sizes as check_sizes
from dvaojax.allocation.rules import find as find
from dvaojax.allocation.rules import knobs_of as knobs_of
from dvaojax.allocation.rules import make as make
from dvaojax.allocation.selection import Rounds as Rounds
from dvaojax.allocation.selection import SelectionConfig as SelectionConfig
from dvaojax.allocation.sizes import allocate as allocate
from dvaojax.allocation.statistics import ProblemStatistics as ProblemStatistics
from dvaojax.allocation.statistics import above_mean as above_mean
from dvaojax.allocation.statistics import at as at
from dvaojax.allocation.statistics import initial_statistics as initial_statistics
from dvaojax.allocation.statistics import observe as observe
from dvaojax.allocation.statistics import observe_alignment as observe_alignment
from dvaojax.allocation.statistics import observe_gradients as observe_gradients
from dvaojax.allocation.statistics import success as success
from dvaojax.allocation.statistics import with_alignment as with_alignment
from dvaojax.allocation.zero_variance import is_zero_variance as is_zero_variance
