"""Six aggregators on a task whose objectives cannot all be earned: the shoot-out's main table.

Claim under test: that of DVAO (arXiv 2605.25604), that weighting each objective by its deviation in
a group makes a better trade-off than sums of rewards or of z-scores, when objectives conflict.

    dvaojax sweep experiments/tension.py               # resumes after a kill
    dvaojax sweep experiments/tension.py --report      # the results so far
    dvaojax sweep experiments/tension.py --smoke       # every code path
    dvaojax train experiments/tension.py --set aggregator=gdpo seed=3    # one cell

The task is that of `shootout.py`, reduced in the same way on a CPU, with a rule that most problems
meet: a sum of at least 40, four in five, counts as right only if the problem was repeated first,
and that takes more tokens than brevity allows. On these problems a completion earns accuracy or
brevity, never both; on the others it can earn everything. In a trial of one seed with four methods
no run ended above 0.85 on accuracy, and those above 0.6 on brevity ended below 0.2 on accuracy.

Accuracy has the weight 0.3, 0.5 or 0.7, and brevity and format share the rest. Where a written-out
answer is right four times in five, accuracy is the better choice from a weight of 0.38 on. All
methods of a seed share the warm start, the order of the problems, the random keys and the learning
rate. The measure is the hypervolume of the front of the three runs on held-out problems. All
methods are compared with DVAO, seed by seed, and corrected for their number by Holm's method.

Needs: a CPU core, about a minute of it per seed, and three to compile.
Result: `experiments/results/tension/`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax

from dvaojax.config import Config, overrides
from dvaojax.sweep import Sweep

SHOOTOUT = Path(__file__).with_name("shootout.py")
FULL = ("task.written_out_from=700",)  # five sums of three digits in six
NUM_SEEDS = 20

TRADE_OFFS = ("0.3", "0.5", "0.7")  # weights of accuracy, as the shoot-out has them
METHODS = ("reward_combination", "dr_grpo", "advantage_combination", "gdpo", "dvao", "rvpo")

EXPECTED = (
    "`reward_combination` and `dvao` differ only by a factor for each group, and their fronts by "
    "less than a hundredth: no significant difference. `dr_grpo` follows groups with a large "
    "deviation most, which are those that are undecided between accuracy and brevity, and is not "
    "behind `dvao`. The methods of z-scores (`advantage_combination`, `gdpo`, `rvpo`) amplify the "
    "rarer of accuracy and brevity and so hold the middle of the front longer: their hypervolume "
    "is not below that of `dvao`, and `rvpo`, which pulls up the worst objective, has the largest. "
    "In the trial, at the weight 0.5, `dvao` had accuracy 0.50 and brevity 0.54, `gdpo` 0.62 and "
    "0.36, and `rvpo` 0.59 and 0.38."
)


def get_sweep() -> Sweep:
    """The sweep: with the reduced task on a CPU, the full built-in task on an accelerator."""
    is_reduced = jax.default_backend() == "cpu"
    changes = ("task.written_out_from=40", "num_steps=60") if is_reduced else FULL
    return _with_tension(overrides.load_experiment(SHOOTOUT, function="get_sweep"), changes)


def get_smoke_sweep() -> Sweep:
    """A miniature for tests: two methods, trade-offs, seeds and steps."""
    small = overrides.load_experiment(SHOOTOUT, function="get_smoke_sweep")
    sweep = _with_tension(small, ("task.written_out_from=40",))
    return dataclasses.replace(
        sweep,
        name="tension-smoke",
        methods={name: sweep.methods[name] for name in ("dvao", "gdpo")},
        seeds=small.seeds,
    )


def _with_tension(sweep: Sweep, changes: Sequence[str]) -> Sweep:
    """A sweep of this experiment: the base of a shoot-out with these settings."""
    return dataclasses.replace(
        sweep,
        name="tension",
        base=overrides.apply(dataclasses.replace(sweep.base, name="tension"), changes),
        situations={"tension": ()},
        methods={name: (f"aggregator={name}",) for name in METHODS},
        trade_offs={
            name: sweep.trade_offs[name] for name in TRADE_OFFS if name in sweep.trade_offs
        },
        seeds=range(NUM_SEEDS),
        only={},
        expected={"tension": EXPECTED},
    )


def get_config() -> Config:
    """One cell of the sweep, with equal weights."""
    return get_sweep().base


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return get_smoke_sweep().base
