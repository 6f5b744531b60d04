r"""All aggregators on a bandit, with a thousand seeds each.

    python experiments/bandit.py                              # resumes where it was stopped
    python experiments/bandit.py --methods dvao,gdpo --out .  # some methods, another directory
    python experiments/bandit.py --add gdpo                   # into the results, others are kept

There is no network: a policy is sixteen numbers and its objectives are computed exactly, so that
many seeds are affordable and small differences are significant.

Claim under test: none. The expectations of the papers are tested, see "Variants" below.

Model (`tabular/problem.py`). There are 32 prompts with 16 possible completions each; a table has
the probability that a completion of a prompt earns `accuracy`, `brevity` and `format`. The policy
is one softmax over the 16 completions for all prompts: as in a network, learning from one group
changes the completions of others. Every seed has its own table; methods, weights and variants of a
seed share the table and the random numbers, and are compared seed by seed.

Update (`tabular/learning.py`). Plain policy gradient from the uniform policy, 30 steps of 8 prompts
x 8 completions:

$$ \theta \leftarrow \theta + \eta \, \operatorname{mean}_{b,i} A_{bi} \nabla \log \pi(y_{bi}) $$

which is the gradient of any clipped loss at ratio 1. No Adam, no KL penalty, one update per batch.
The weighted sum has the weight a for accuracy, 0.1, 0.3, 0.5, 0.7 or 0.9, and (1 - a) / 2 for each
of the others. Three kinds of step separate the direction of the advantages from their magnitude:

    common  unscaled advantages, rate 0.8 for all methods; `grpo` makes about half of the progress
    equal   the advantages of each step divided by their root mean square, at the same rate:
            compares only the directions, and the weighting of the groups of a batch
    own     unscaled advantages, at the best of the rates 0.8, 2.4, 7.2, 21.6 and 64.8 on 250 other
            tables at a = 0.5: the result of tuning

Knobs have their defaults, the same in all variants, except for those that define a method:
`lagrangian` and `constrained_grpo` have the threshold 0.6 for brevity and format, `rvpo_annealed`
is given the number of steps, `dvao_denoised` the variance of the noise (0 in five variants, where
it equals `dvao`), and `dro` has format as its gate. `vpo` with one answer per completion is `grpo`
with random weights; it draws one set of weights per group instead of 100, whose mean would be
nearly constant.

Measures (`tabular/measures.py`). *Progress*: the gain of the weighted sum over the untrained
policy, as a share of the gain of the best completion; mean over the five weights. *Hypervolume*:
that of the five policies divided by the mean hypervolume of the five best completions, by moocore,
with the reference point (0, 0, 0). All objectives count as earned or not, without noise and scale.
Intervals are 95 % percentile bootstrap over the seeds.

Variants and the papers' expectations, which were written down before the experiment ran, after a
trial of `grpo` and `dvao` had fixed the rate and the number of steps:

    plain      three independent objectives. DVAO (2605.25604): reward combination has steps of
               maximal length even if objectives disagree; DVAO's are shorter then, so it should be
               ahead at equal length and at its own rate.
    noisy      a judge adds normal noise with standard deviation 1 to format. Spread gives weight in
               sums and in DVAO, whose paper names it as a weakness; z-scores bound the influence of
               an objective. `dvao_denoised` should repair the effect of noise on `dvao`.
    conflict   accuracy and brevity have the correlation -0.9. DVAO gives less weight to groups
               whose objectives cancel, GD2PO (2606.16771) drops completions on which they disagree,
               and RVPO (2605.05750) emphasises the worst objective: all three should gain over
               sums.
    scaled     brevity pays 10. MO-GRPO (2509.22047), GDPO (2601.05242): z-scores are invariant, and
               sums follow brevity. So does DVAO, whose paper scales all rewards to [0, 1] first.
    rare       one completion in twenty earns format. DARA (2610.00574): objectives that vary in few
               groups have too little weight, also in GDPO; its factors should help most.
    saturated  nineteen in twenty earn format. SA-MRPO (2608.16072) and Focal Reward (2605.26579)
               focus on objectives that are not yet reached; z-scores amplify single failures and
               should lose.

The experiment shows the mean direction of an aggregator's advantages, their noise, and which part
of a difference is only step length, with known ground truth. It does not show the effects of Adam,
clipping, tokens and lengths, a policy that depends on the prompt, or the drift of a real task. The
numbers of prompts, completions and steps are chosen here. `gdpo_token_weighted`, `opo` and
`reinforce_plus_plus` weight by lengths, which have no effect on the gradient here.

Needs: about ten minutes of processor time. A finished cell (a method, a variant, a kind of step) is
kept in `runs/bandit/` and not computed again unless the code of its method, of the model or of the
update changes. Devices share the seeds; a CPU is used as one device, because with two the batched
solves of `sc_ppo` were observed to deadlock.

Result: `experiments/results/bandit.json` (all numbers), `bandit.md` (tables) and three plots.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tabular import cells, pictures, report
from tabular.problem import variants

from dvaojax.aggregators import METHODS, needs_of, suggest
from dvaojax.errors import UserError

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Computes the missing cells and writes the report; returns 2 if an argument is invalid."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--methods", help="names separated by commas (default: all)")
    chosen.add_argument(
        "--add", help="names separated by commas: computed and added to the results at --out"
    )
    parser.add_argument("--seeds", type=int, help="number of seeds (default 1000)")
    parser.add_argument(
        "--cells", type=Path, default=Path("runs", "bandit"), help="directory of finished cells"
    )
    parser.add_argument(
        "--out", type=Path, help="directory of the report (default: experiments/results)"
    )
    options = parser.parse_args(arguments)
    is_part = options.methods is not None or options.seeds is not None
    try:
        if is_part and options.out is None:
            raise UserError(
                "with --methods or --seeds, choose a directory for the report: --out DIR"
            )
        names = _names(options.methods or options.add)
        settings = cells.Settings(num_seeds=options.seeds or cells.Settings.num_seeds)
        out = options.out or HERE / "results"
        before = report.read(out, settings) if options.add else None
        out.mkdir(parents=True, exist_ok=True)
        if options.add and report.AGAINST not in names:
            names.append(report.AGAINST)
        computed = compute_missing(names, settings, options.cells, Console(highlight=False))
        command = shlex.join(["python", "experiments/bandit.py", *arguments])
        summary = report.summarise(computed, settings, command=command)
        if before is not None:
            summary = report.merged(before, summary)
    except UserError as error:
        print(f"bandit.py: {error}", file=sys.stderr)
        return 2
    report.write(summary, out)
    pictures.draw(summary, out)
    return 0


def _names(text: str | None) -> list[str]:
    """Names of the methods; by default all that need a single score, in alphabetical order."""
    single = [name for name in METHODS if "scores" not in needs_of(METHODS[name])]
    names = sorted(single) if text is None else text.split(",")
    for name in names:
        if name not in METHODS:
            raise UserError(f"unknown aggregator {suggest(name, METHODS)}")
        if name not in single:
            raise UserError(f"{name} needs several scores of each completion, and there is one")
    return names


def compute_missing(
    names: Sequence[str], settings: cells.Settings, directory: Path, console: Console
) -> dict[tuple[str, str, str], cells.Cell]:
    """All cells of the methods, computed or loaded, with a progress bar."""
    situations = variants()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    results, began, num_computed = {}, time.perf_counter(), 0
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("", total=len(names) * len(situations) * len(cells.STEPS))
        for name in names:
            digest = cells.digest(name, settings)
            for situation, variant in situations.items():
                for step in cells.STEPS:
                    progress.update(task, description=f"{name} · {situation} · {step}")
                    path = cells.path_of(directory, name, situation, step)
                    cell = cells.load(path, digest)
                    if cell is None:
                        cells.save(path, cells.compute(name, variant, step, settings), digest)
                        cell = cells.load(path, digest)
                        num_computed += 1
                    assert cell is not None, path
                    results[name, situation, step] = cell
                    progress.advance(task)
            if not console.is_terminal:
                minutes = (time.perf_counter() - began) / 60
                console.print(f"{name}: {len(results)} cells after {minutes:.1f} minutes")
    minutes = (time.perf_counter() - began) / 60
    console.print(f"{num_computed} of {len(results)} cells computed, in {minutes:.1f} minutes")
    return results


if __name__ == "__main__":
    sys.exit(main())
