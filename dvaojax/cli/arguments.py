"""What can be written on the command line, and the help that explains it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import dvaojax
from dvaojax.errors import UserError

_ABOUT = """\
Multi-reward reinforcement learning for language models.

A run samples groups of completions, scores them on several objectives, turns the
rewards into advantages (DVAO by default) and takes policy-gradient steps. It keeps
everything it makes in one directory, runs/NAME."""

_START = """\
Start here:
  dvaojax train                           the embedded task, a few minutes on a laptop
  dvaojax evaluate runs/arithmetic        measure it once more, on held-out problems
  dvaojax sweep experiments/shootout.py   compare methods, situation by situation
  dvaojax plot runs/arithmetic            draw its pictures again
  dvaojax report runs/arithmetic          one page with everything it did
  dvaojax export runs/arithmetic out      write its weights as transformers reads them
  dvaojax plan --help                     what a run would take on a TPU slice, without one
  dvaojax data list                       sets of problems that can be prepared
  dvaojax methods                         what there is to choose from, and what holds of it
  dvaojax train --help                    what else there is to say to a command"""

_TRAIN = """\
Run an experiment from its start to its report: metrics, completions, checkpoints,
pictures and a summary with the evaluation before and after, in runs/NAME.

Without EXPERIMENT.py this is the embedded task: a small decoder learns to write out
sums, is scored on accuracy, brevity and format, and needs a few minutes on two cores.

Ctrl-C or SIGTERM finishes the step, saves, and says how to resume."""

_TRAIN_EXAMPLES = """\
Examples:
  dvaojax train
  dvaojax train --set aggregator=gdpo --name gdpo
  dvaojax train --set optimizer.learning_rate=3e-4 weights.brevity=0.5 --name gentle
  dvaojax train --name gdpo --set aggregator=gdpo --resume
  dvaojax train experiments/arithmetic.py --smoke
  dvaojax train --settings           every key that --set takes, with its value"""

_EVALUATE = """\
Measure a run's checkpoint or a published model on held-out problems: avg@n, pass@k and,
where answers can be compared, maj@n of every objective, over all problems and by category,
each with its 95 % interval over the problems.

Completions and numbers are kept in a directory of RUN/evaluations. The same command
goes on where it was stopped, and shows an evaluation that is finished once more."""

_EVALUATE_EXAMPLES = """\
Examples:
  dvaojax evaluate runs/arithmetic
  dvaojax evaluate runs/arithmetic --samples 8 --pass-at 1 4 8
  dvaojax evaluate runs/arithmetic --preset dvao          as the paper draws them
  dvaojax evaluate runs/arithmetic --best --set evaluation.sampling.temperature=0.6
  dvaojax evaluate runs/arithmetic --task arithmetic --set task.digits=4
  dvaojax evaluate runs/mine --experiment mine.py         a task of your own"""

_SWEEP = """\
Train and measure every cell of a grid, situations x methods x trade-offs x seeds, and
compare the methods: hypervolumes and means with 95 % intervals over the seeds, a table
and a picture of each situation. SWEEP.py is a Python file with a function get_sweep().

Ctrl-C or SIGTERM finishes the cell. The same command goes on where it was stopped or
killed, and reports once more where nothing is left to do."""

_SWEEP_EXAMPLES = """\
Examples:
  dvaojax sweep experiments/shootout.py --processes 2
  dvaojax sweep experiments/shootout.py --report       what there is so far
  dvaojax sweep experiments/shootout.py --smoke        every code path"""

_PLOT = """\
Draw runs, finished or not: each objective over the steps, effective weights, agreement
and silent groups, lengths and entropy, and two objectives against each other with the
Pareto front marked. Several runs are laid over each other."""

_PLOT_EXAMPLES = """\
Examples:
  dvaojax plot runs/arithmetic
  dvaojax plot runs/arithmetic runs/gdpo --out comparison
  dvaojax plot runs/* --out comparison --objectives brevity accuracy"""

_REPORT = """\
Write one HTML file with everything that runs did, finished or not: objectives before and
after with intervals, curves, effective weights, agreement, the completions with all their
rewards to search through, timing, configuration, environment. Several runs are laid over
each other, and where their configurations differ comes first.

The file stands alone: nothing is fetched when it is opened. An earlier report is replaced."""

_REPORT_EXAMPLES = """\
Examples:
  dvaojax report runs/arithmetic                  runs/arithmetic/report.html
  dvaojax report runs/arithmetic runs/gdpo        report.html
  dvaojax report runs/* --output comparison.html"""

_EXPORT = """\
Write a checkpoint of a run as a published model: config.json, safetensors, and the
files of the tokenizer with the chat template. transformers loads the directory and
vLLM serves it. DIR appears when it is complete; an existing one is not touched."""

_EXPORT_EXAMPLES = """\
Examples:
  dvaojax export runs/arithmetic exported
  dvaojax export runs/mine exported --best --dtype bfloat16
  dvaojax export runs/mine exported --experiment mine.py   a task of your own"""

_PLAN = """\
Compile a run's rollout and train step for a TPU slice, on a machine that has none, and
print whether it fits, the memory of a chip by part, floating-point operations,
collectives, and two estimates of the time: the compiler's and a roofline. Where it does
not fit, other meshes, remat policies and micro-batches are searched for one that does.

Chips are v5e, v5p and v6e. Needs: pip install 'dvaojax[plan]'."""

_PLAN_EXAMPLES = """\
Examples:
  dvaojax plan --model qwen3-8b --topology v5p:4x4x4 --prompts 128 --group-size 16 \\
      --prompt-length 1024 --completion-length 7168 --steps 500
  dvaojax plan --experiment mine.py --topology v6e:8x8 --set model.remat=none
  dvaojax plan --model qwen3-4b --topology v5e:8x8 --set mesh.fsdp=16 mesh.tensor=4"""

_DATA = """\
Prepare sets of problems, once each. Published sets come from their source or from files
on this disk; a set of your own is JSON lines, {"prompt": ..., "answer": ...} each, where
the prompt is a text or a list of messages. Needs: pip install 'dvaojax[data]'."""

_DATA_EXAMPLES = """\
Examples:
  dvaojax data list
  dvaojax data prepare gsm8k
  dvaojax data prepare bfcl --source gorilla/berkeley-function-call-leaderboard/bfcl_eval/data
  dvaojax data prepare mine --source mine.jsonl"""

_METHODS = """\
Print what rewards can be turned into advantages with, advantages into a loss, and what is
known of problems into their share of the completions: what holds of each method whatever
the rewards are, what it needs, and where it is from. With a name: its equation, what it is
confused with, its knobs, and an entry for BibTeX."""

_METHODS_EXAMPLES = """\
Examples:
  dvaojax methods
  dvaojax methods dvao
  dvaojax methods gspo"""


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command; `door` names the command.

    Raises:
        UserError: they cannot be understood.
    """
    parser = _parser("dvaojax", about=_ABOUT, examples=_START)
    parser.add_argument("--version", action="version", version=f"dvaojax {dvaojax.__version__}")
    doors = parser.add_subparsers(dest="door", metavar="COMMAND", required=True)
    for add in (
        _add_train,
        _add_evaluate,
        _add_sweep,
        _add_plot,
        _add_report,
        _add_export,
        _add_plan,
        _add_data,
        _add_methods,
    ):
        add(doors)
    return parser.parse_args(argv)


def _add_train(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(doors, "train", "run an experiment", _TRAIN, _TRAIN_EXAMPLES)
    parser.add_argument(
        "experiment",
        nargs="?",
        type=Path,
        metavar="EXPERIMENT.py",
        help="a Python file with a function get_config(); the embedded task by default",
    )
    parser.add_argument(
        "--smoke",
        action="store_const",
        dest="function",
        const="get_smoke_config",
        default="get_config",
        help="the experiment in miniature: what its get_smoke_config() returns",
    )
    _add_settings(parser, "replace settings; --settings lists them")
    parser.add_argument("--name", help="of the run, the same as --set name=NAME")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where the run's directory stands (default: runs)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        action="store_const",
        dest="start",
        const="resume",
        default="create",
        help="continue the run of that name from its last checkpoint, with the same settings",
    )
    start.add_argument(
        "--overwrite",
        action="store_const",
        dest="start",
        const="overwrite",
        help="delete the run of that name first",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, started alike on every host: they find each other on "
        "Cloud TPU, Slurm, Open MPI and Kubernetes, and elsewhere by JAX_COORDINATOR_ADDRESS, "
        "JAX_NUM_PROCESSES and JAX_PROCESS_ID; runs/NAME lies on a file system they share",
    )
    parser.add_argument(
        "--settings", action="store_true", help="print every setting with its value, and stop"
    )


def _add_evaluate(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(doors, "evaluate", "measure a checkpoint", _EVALUATE, _EVALUATE_EXAMPLES)
    parser.add_argument(
        "policy",
        type=Path,
        metavar="RUN_OR_CHECKPOINT",
        help="a run's directory, runs/NAME; or a published model, a directory or OWNER/NAME",
    )
    parser.add_argument(
        "--samples",
        type=int,
        metavar="K",
        help="completions of each problem; their mean is avg@K (default: as in the run)",
    )
    parser.add_argument(
        "--pass-at",
        type=int,
        nargs="+",
        metavar="K",
        help="the k of pass@k (default: 1 and the number of samples)",
    )
    parser.add_argument(
        "--pass-threshold",
        type=float,
        default=1.0,
        metavar="R",
        help="a completion passes an objective with a reward of at least R (default: 1)",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="instead of the run's own; a published model has none"
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="a paper's setting: dvao, dvao-tools, gdpo"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the evaluation's own directory (default: one in RUN/evaluations or evaluations)",
    )
    _add_settings(parser, "replace settings of evaluation, mesh, rewards or task")
    _add_checkpoint(parser)


def _add_sweep(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(doors, "sweep", "compare methods over a grid", _SWEEP, _SWEEP_EXAMPLES)
    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP.py", help="a Python file with a function get_sweep()"
    )
    parser.add_argument(
        "--smoke",
        action="store_const",
        dest="function",
        const="get_smoke_sweep",
        default="get_sweep",
        help="the sweep in miniature: what its get_smoke_sweep() returns",
    )
    _add_settings(parser, "replace settings of what all cells have in common")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the sweep's own directory (default: sweeps/NAME)",
    )
    parser.add_argument(
        "--processes",
        type=_positive,
        default=1,
        metavar="N",
        help="share the grid out among so many processes, each with its part of the cores",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="measure nothing: tables and pictures of what there is",
    )
    parser.add_argument("--share", help=argparse.SUPPRESS)


def _add_plot(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(doors, "plot", "draw one or several runs", _PLOT, _PLOT_EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's directory")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the pictures go (default: RUN/plots for one run, plots for several)",
    )
    parser.add_argument(
        "--objectives",
        nargs=2,
        metavar=("X", "Y"),
        help="the two objectives drawn against each other (default: the first two)",
    )


def _add_report(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(
        doors, "report", "one page about one or several runs", _REPORT, _REPORT_EXAMPLES
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's directory")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where it goes (default: RUN/report.html for one run, report.html for several)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_const",
        dest="replaces",
        const="anything",
        default="reports",
        help="replace a file that is there even if it is not a report",
    )


def _add_plan(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(doors, "plan", "what a run takes on a TPU slice", _PLAN, _PLAN_EXAMPLES)
    parser.add_argument("--topology", required=True, metavar="CHIP:SHAPE", help="such as v5p:4x4x4")
    parser.add_argument("--model", help="a published decoder, such as qwen3-8b")
    parser.add_argument(
        "--experiment",
        type=Path,
        metavar="EXPERIMENT.py",
        help="a file with a function get_config(); what is not said here is taken from it",
    )
    for name, gist in (
        ("prompts", "prompts of a step"),
        ("group-size", "completions of a prompt"),
        ("prompt-length", "tokens that prompts are padded to"),
        ("completion-length", "tokens of a completion at most"),
        ("steps", "of the run, for the hours it takes"),
    ):
        parser.add_argument(f"--{name}", type=_positive, metavar="N", help=gist)
    parser.add_argument(
        "--quick",
        action="store_const",
        dest="effort",
        const=-1.0,
        default=0.0,
        help="compile with little optimisation: more memory, more collectives, no cycles",
    )
    _add_settings(parser, "replace settings, those of mesh, learning and model among them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")


def _add_data(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(doors, "data", "prepare sets of problems", _DATA, _DATA_EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prepare = actions.add_parser("prepare", help="a published set, or one of your own")
    prepare.add_argument("name", metavar="NAME", help="of the set; `dvaojax data list` has them")
    prepare.add_argument(
        "--source",
        type=Path,
        metavar="PATH",
        help="its file, or the directory of its files (default: where it is published)",
    )
    for action in (prepare, actions.add_parser("list", help="the published sets")):
        action.add_argument(
            "--data-dir",
            default="",
            metavar="DIR",
            help="where prepared sets stand (default: TFDS_DATA_DIR or ~/tensorflow_datasets)",
        )


def _add_methods(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(doors, "methods", "what to choose from", _METHODS, _METHODS_EXAMPLES)
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a method, here or in its paper")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _add_export(doors: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _add_door(
        doors, "export", "write a checkpoint as a published model", _EXPORT, _EXPORT_EXAMPLES
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's directory, runs/NAME")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="the float that weights are written in (default: that of the parameters)",
    )
    _add_checkpoint(parser)


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Which checkpoint of a run that was made before."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="which checkpoint (default: newest)")
    which.add_argument(
        "--best", action="store_true", help="the checkpoint with the best weighted reward"
    )
    parser.add_argument(
        "--experiment",
        type=Path,
        metavar="EXPERIMENT.py",
        help="the file that defines the run's task, if the task is not part of dvaojax",
    )


def _add_settings(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help=text,
    )


def _add_door(
    doors: "argparse._SubParsersAction[_Parser]", name: str, gist: str, about: str, examples: str
) -> argparse.ArgumentParser:
    return doors.add_parser(
        name,
        help=gist,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _parser(name: str, *, about: str, examples: str) -> _Parser:
    return _Parser(
        prog=name,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
