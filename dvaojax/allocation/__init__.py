"""How a step's completions are shared out among its problems.

    from dvaojax.allocation import allocate, neyman

A rule looks at what is known of each problem of a step (`Statistics`) and says how many
completions each gets: whole numbers between a floor and a cap that add up to the budget. The
sampler draws them as groups of unequal size, with a mask where a group ends early, so that no
shape depends on them. Everything here is NumPy on the host, between two steps; no JAX is started.

A rule is added by writing its file, exporting it here and, where it needs nothing but rewards,
naming it in `rules.BY_NAME`.
"""

from dvaojax.allocation.config import AllocationConfig as AllocationConfig
from dvaojax.allocation.dynamo import dynamo as dynamo
from dvaojax.allocation.dynamo import neyman as neyman
from dvaojax.allocation.gvm import gvm as gvm
from dvaojax.allocation.rules import BY_NAME as BY_NAME
from dvaojax.allocation.rules import Rule as Rule
from dvaojax.allocation.rules import knobs_of as knobs_of
from dvaojax.allocation.rules import make as make
from dvaojax.allocation.sizes import allocate as allocate
from dvaojax.allocation.statistics import Statistics as Statistics
from dvaojax.allocation.statistics import at as at
from dvaojax.allocation.statistics import nothing_known as nothing_known
from dvaojax.allocation.statistics import observe as observe
from dvaojax.allocation.statistics import observe_gradients as observe_gradients
from dvaojax.allocation.statistics import success as success
from dvaojax.allocation.uniform import uniform as uniform
from dvaojax.allocation.zero_variance import silent as silent
