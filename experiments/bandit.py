r"""Every way to turn rewards into advantages on a bandit, a thousand times each.

    python experiments/bandit.py                              # goes on where it was stopped
    python experiments/bandit.py --methods dvao,gdpo --out .  # a part of it, elsewhere

No network: a policy is sixteen numbers, its objectives are computed exactly, and so many seeds are
affordable that small differences can be told from luck.

Model (`tabular/problem.py`). There are 32 prompts and 16 ways to complete each; a table says with
which probability each completion of each prompt earns `accuracy`, `brevity` and `format`. The
policy is one softmax over the 16, whatever the prompt: as in a network, what a group teaches
changes what is written elsewhere. Every seed has a table of its own; methods, weights and variants
of a seed share the table and the random numbers, and are compared seed by seed.

Update (`tabular/learning.py`). Plain policy gradient from the uniform policy, 30 steps of 8 prompts
x 8 completions:

$$ \theta \leftarrow \theta + \eta \, \operatorname{mean}_{b,i} A_{bi} \nabla \log \pi(y_{bi}) $$

which is the gradient of any clipped loss at ratio 1. No Adam, no KL penalty, one update a batch.
The weighted sum has the weight a for accuracy, 0.1, 0.3, 0.5, 0.7 or 0.9, and (1 - a) / 2 for each
of the others. Direction and magnitude of advantages are told apart by three kinds of step:

    common  advantages as they are, the rate 0.8 for all: with `grpo` about half of the way is made
    equal   each step's advantages divided by the root of their mean square, at the same rate: what
            is left is the direction, and how the groups of one batch are weighed
    own     as they are, at the rate among 0.8, 2.4, 7.2, 21.6 and 64.8 that serves the method best
            on 250 other tables at a = 0.5: what somebody gets who tunes

A method's knobs are at their defaults, and nobody tells it what is the matter. Exceptions are what
would otherwise be another method: `lagrangian` and `constrained_grpo` ask for 0.6 of brevity and
of format, `rvpo_annealed` knows the number of steps, and `dvao_denoised` the variance of the noise
(in five variants it is 0, and the method `dvao`). `vpo`, with one answer a completion, is `grpo`
under random weights; it draws one set of weights for each group instead of 100, whose mean would
hardly be random.

Measures (`tabular/measures.py`). *Progress*: the share of the way from the untrained policy to the
best completion, in the weighted sum that was asked for, mean over the five weights. *Hypervolume*
of the five policies over the mean of that of the five best completions, by moocore; reference point
(0, 0, 0), nothing ever earned. All objectives count as earned or not, without noise and scale.
Intervals are 95 % percentile bootstrap over the seeds.

Variants, and what the papers have one expect; written down before the experiment ran, when a trial
of `grpo` and `dvao` had fixed the rate and the number of steps:

    plain      three independent objectives. DVAO (2605.25604): reward combination takes steps that
               are as long as can be however much objectives disagree; DVAO's are shorter where they
               do, so it should be ahead at equal length and at its own rate.
    noisy      a judge adds normal noise of deviation 1 to format. Spread buys weight in sums and in
               DVAO, whose paper names it a weakness; z-scores bound what an objective can say.
               `dvao_denoised` should mend what noise does to `dvao`.
    conflict   accuracy and brevity have the correlation -0.9. DVAO follows groups less where
               objectives cancel, GD2PO (2606.16771) drops completions on which they disagree, and
               RVPO (2605.05750) watches the worst objective: all three should gain over sums.
    scaled     brevity pays 10. MO-GRPO (2509.22047), GDPO (2601.05242): z-scores do not notice, and
               sums follow brevity. So does DVAO, whose paper scales all rewards to [0, 1] first.
    rare       one completion in twenty earns format. DARA (2610.00574): what varies in few groups
               is given too little energy, by GDPO as well; its factors should help most.
    saturated  nineteen in twenty do. SA-MRPO (2608.16072) and Focal Reward (2605.26579) turn to
               what is not done; z-scores make much of one failure and should lose by it.

It can tell: which direction an aggregator's advantages have in the mean, how noisy they are, and
what of a difference is only step length, in a situation where the truth is known. It cannot tell
what Adam, clipping, tokens and lengths, a policy that sees its prompt, or the drift of a real task
add; the numbers of prompts, completions and steps are ours; `gdpo_token_weighted`, `opo` and
`reinforce_plus_plus` weigh lengths that no gradient of tokens answers to here.

Needs: about ten minutes of processor time. A finished cell, one method in one variant at one kind
of step, is kept in `runs/bandit/` and is not computed again unless the code of its method, of the
model or of the update changes. Devices share the seeds; a CPU is left as one device, for with two
the batched solves of `sc_ppo` were seen to wait for each other for ever.

Result: `experiments/results/bandit.json` (all numbers), `bandit.md` (tables) and three pictures.
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

from dvaojax.aggregators import METHODS, suggest
from dvaojax.errors import UserError

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute what is missing, then write the report; 2 where it was asked for wrongly."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", help="some of them, with commas (default: all)")
    parser.add_argument("--seeds", type=int, help="how many (default 1000)")
    parser.add_argument("--cells", type=Path, default=Path("runs", "bandit"), help="what is kept")
    parser.add_argument("--out", type=Path, help="the report (default: experiments/results)")
    chosen = parser.parse_args(arguments)
    is_part = chosen.methods is not None or chosen.seeds is not None
    try:
        if is_part and chosen.out is None:
            raise UserError("a part of the experiment needs a place of its own: --out DIR")
        names = _names(chosen.methods)
        settings = cells.Settings(num_seeds=chosen.seeds or cells.Settings.num_seeds)
        out = chosen.out or HERE / "results"
        out.mkdir(parents=True, exist_ok=True)
        computed = compute_missing(names, settings, chosen.cells, Console(highlight=False))
        command = shlex.join(["python", "experiments/bandit.py", *arguments])
        summary = report.summarise(computed, settings, command=command)
    except UserError as error:
        print(f"bandit.py: {error}", file=sys.stderr)
        return 2
    report.write(summary, out)
    pictures.draw(summary, out)
    return 0


def _names(text: str | None) -> list[str]:
    """Methods by name, in the order of the alphabet."""
    names = sorted(METHODS) if text is None else text.split(",")
    for name in names:
        if name not in METHODS:
            raise UserError(f"unknown aggregator {suggest(name, METHODS)}")
    return names


def compute_missing(
    names: Sequence[str], settings: cells.Settings, directory: Path, console: Console
) -> dict[tuple[str, str, str], cells.Cell]:
    """All cells of the methods, computed or kept, with a line that says how far it is."""
    situations = variants()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    found, began, num_computed = {}, time.perf_counter(), 0
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
                    found[name, situation, step] = cell
                    progress.advance(task)
            if not console.is_terminal:
                minutes = (time.perf_counter() - began) / 60
                console.print(f"{name}: {len(found)} cells after {minutes:.1f} minutes")
    minutes = (time.perf_counter() - began) / 60
    console.print(f"{num_computed} of {len(found)} cells computed, in {minutes:.1f} minutes")
    return found


if __name__ == "__main__":
    sys.exit(main())
