r"""DVAO against eight methods on the bandit, regime by regime: where its advantage begins and ends.

    python experiments/regimes.py                     # resumes where it was stopped
    python experiments/regimes.py --seeds 10 --out .  # fewer seeds, another directory

The model is that of `bandit.py`: a policy of sixteen numbers on tables of completions, whose value
is computed exactly. The tables have K objectives; the first has the same correlation with each of
the others. From three objectives, groups of 8, no noise and equal weights, one property is varied
at a time (`tabular/axes.py`): the correlation, for K = 2, 3 and 8; and K, the noise on one reward,
the size of the groups (of 8 prompts a step), and the weight of the first objective, each without
correlation and with the correlation -0.6.

Two kinds of step separate the direction of the advantages from their length, as in the bandit:

    equal  the advantages of each step divided by their root mean square, at the rate 0.8
    tuned  the advantages as they are, at the best of the rates 1.5, 3, 6, 12, 24 and 48 for the
           method and the regime, by 125 other tables

The measure is progress: the gain of the weighted sum over the untrained policy, as a share of the
gain of the best completion. Every regime has 250 tables; the methods share tables and random
numbers, and are compared seed by seed with Student's t. All comparisons of the experiment are one
family, corrected by Holm's method: a difference is called one if its adjusted p-value is below
0.05. Intervals are 95 % and not adjusted.

Claim under test: DVAO (2605.25604) weights each objective by its deviation within a group, so that
groups whose objectives disagree get shorter steps than by reward combination, without z-scores that
amplify what hardly varies. If that helps, DVAO is ahead of reward combination where objectives
disagree, and of the methods of z-scores where an objective varies little.

Predictions, written before the results; `bandit.py` had shown six situations, and two methods in
three regimes had been run to measure the time:

    correlation  DVAO differs from `reward_combination` by less than 1 point everywhere; it is ahead
                 in the middle, behind at -0.9, and equal at 0.9, where the groups' factor is 1.
                 `dr_grpo`, `dvao_shrunk` and `james_stein` are ahead of it everywhere at the equal
                 step; `rvpo` falls behind from -0.6 downwards.
    objectives   the difference from `reward_combination` shrinks with K, because the factor of a
                 group, a mean over more pairs of objectives, varies less.
    noise        at the equal step the methods of z-scores (`advantage_combination`, `gdpo`, `rvpo`,
                 `corr_gdpo`) are ahead of DVAO by more, the larger the noise; at the tuned step
                 DVAO is ahead of them from a noise of 1 on.
    group size   the lead of `dr_grpo`, `dvao_shrunk` and `james_stein` shrinks as groups grow, to
                 less than half a point at 64, because the deviations are then known.
    weight       with nearly all weight on one objective all methods that divide by a group's
                 deviation are one: differences vanish at 0.97, except those of `dr_grpo`,
                 `dvao_shrunk` and `james_stein`.
    in all       there is no regime in which DVAO is ahead of all eight.

Needs: about six minutes of processor time. A finished cell (a method in a regime) is kept in
`runs/regimes/` and not computed again unless its code or settings change.

Result: `experiments/results/regimes.json`, `regimes.md` and two figures.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from tabular import axes, cells, regime_cells, regime_pictures, regime_report
from tabular.axes import Regime, points

from dvaojax.errors import UserError

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Computes the missing cells and writes the report; returns 2 if an argument is invalid."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, help="number of seeds (default 250)")
    parser.add_argument(
        "--cells", type=Path, default=Path("runs", "regimes"), help="directory of finished cells"
    )
    parser.add_argument(
        "--out", type=Path, help="directory of the report (default: experiments/results)"
    )
    options = parser.parse_args(arguments)
    try:
        if options.seeds is not None and options.out is None:
            raise UserError("with --seeds, choose a directory for the report: --out DIR")
        design = regime_cells.Design(num_seeds=options.seeds or regime_cells.Design.num_seeds)
        out = options.out or HERE / "results"
        outcomes = compute_missing(design, options.cells, Console(highlight=False))
    except UserError as error:
        print(f"regimes.py: {error}", file=sys.stderr)
        return 2
    command = shlex.join(["python", "experiments/regimes.py", *arguments])
    report = regime_report.summarise(outcomes, design, command=command)
    out.mkdir(parents=True, exist_ok=True)
    regime_report.write(report, out)
    regime_pictures.draw(report, out)
    return 0


def compute_missing(
    design: regime_cells.Design, directory: Path, console: Console
) -> Mapping[tuple[str, Regime], regime_cells.Outcome]:
    """The outcome of every method in every regime, computed or loaded."""
    regimes = sorted({point.regime for point in points()}, key=lambda regime: regime.size)
    began, results = time.perf_counter(), {}
    for regime in regimes:
        for name in regime_cells.METHODS:
            digest = cells.digest(name, (design, regime), axes, regime_cells)
            path = directory / name / f"{regime.name}.npz"
            outcome = cells.load(path, digest, regime_cells.Outcome)
            if outcome is None:
                cells.save(path, regime_cells.compute(name, regime, design), digest)
                outcome = cells.load(path, digest, regime_cells.Outcome)
            results[name, regime] = outcome
        minutes = (time.perf_counter() - began) / 60
        number = len(results) // len(regime_cells.METHODS)
        console.print(f"{number} of {len(regimes)} regimes after {minutes:.1f} minutes")
    return results


if __name__ == "__main__":
    sys.exit(main())
