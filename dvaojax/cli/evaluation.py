"""Implementation of `dvaojax evaluate`: samples, scores, and reports on held-out problems."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import dvaojax
from dvaojax import files
from dvaojax.cli.evaluation_table import answer_set_table, objective_table
from dvaojax.cli.policy_source import PolicySource, found_policy
from dvaojax.config import Config, validate_evaluation
from dvaojax.errors import UserError, printable
from dvaojax.evaluation.answer_sets import set_report
from dvaojax.evaluation.directory import CompletionsLayout, EvaluationDirectory, digest
from dvaojax.evaluation.held_out import Evaluation, Problems, held_out_problems
from dvaojax.evaluation.intervals import Interval
from dvaojax.evaluation.measures import MeasureSettings, report, report_by_category
from dvaojax.run import directory as run_directory
from dvaojax.run.description import config_to_json
from dvaojax.train.evaluator import answers, batch_size_of, make_evaluator
from dvaojax.train.scoring import make_scorer
from dvaojax.types import TaskWithAnswers, TaskWithAnswerSets, TaskWithNotes

# Width of the tables if the output is not a terminal.
_WIDTH = 160


def evaluate(arguments: argparse.Namespace) -> None:
    """Evaluates the policy that the arguments select, and prints the results.

    Args:
        arguments: those of `dvaojax evaluate`, see `dvaojax evaluate --help`.

    Raises:
        UserError: the policy cannot be found, or an argument is invalid.
        RewardError: a reward function failed.
    """
    with found_policy(arguments) as source:
        _evaluate(source, arguments)


def _evaluate(source: PolicySource, arguments: argparse.Namespace) -> None:
    """Evaluates a policy with the settings of the arguments."""
    config = source.config
    validate_evaluation(config)
    measures = _measure_settings(arguments, config)
    problems = held_out_problems(config.task, num_prompts=config.evaluation.num_prompts)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    if isinstance(config.task, TaskWithNotes):
        notes = map(printable, config.task.notes("test"))
        console.print(*notes, sep="\n", markup=False, soft_wrap=True)
    settings = _settings(source, problems)
    name = f"{config.task.name}-{source.name}-{digest(settings)}"
    with run_directory.at(arguments.out or source.home / name) as directory, directory.hold():
        record = _complete_record(source, problems, directory.path, settings, console)
        _report(source, record, measures, console)
        where = f"completions and numbers: {directory.address}"
        console.print(where, markup=False, soft_wrap=True)


def _report(
    source: PolicySource, record: EvaluationDirectory, measures: MeasureSettings, console: Console
) -> None:
    """Writes the summary of a finished evaluation, and prints it."""
    config = source.config
    evaluation = Evaluation(config.objectives, record.finished)
    overall, by_category = report(evaluation, measures), report_by_category(evaluation, measures)
    answer_sets = _answer_set_measures(config, evaluation, measures)
    summary: dict[str, Any] = {
        "pass_threshold": measures.pass_threshold,
        "samples": config.evaluation.samples,
        **overall.to_json(),
        "categories": {name: category.to_json() for name, category in by_category.items()},
    }
    if answer_sets:
        summary["answer_sets"] = {
            name: interval and interval._asdict() for name, interval in answer_sets.items()
        }
    files.write_json(record.summary, summary)
    console.print(printable(_title(source, overall.num_problems)), markup=False)
    console.print(objective_table(overall, by_category))
    if answer_sets:
        console.print("all answers of all completions of a problem, with 95 % intervals:")
        console.print(answer_set_table(answer_sets))


def _complete_record(
    source: PolicySource,
    problems: Problems,
    path: Path,
    settings: Mapping[str, Any],
    console: Console,
) -> EvaluationDirectory:
    """Samples and scores the problems that the record does not have yet."""
    config = source.config
    evaluator = make_evaluator(config)
    params = source.load(evaluator.mesh)
    layout = CompletionsLayout(
        prompts=problems.prompts,
        samples=config.evaluation.samples,
        batch_size=batch_size_of(config, evaluator.mesh, len(problems.prompts)),
        objectives=config.objectives,
        answer=config.task.answer if isinstance(config.task, TaskWithAnswers) else None,
    )
    with make_scorer(config) as scorer:
        record = EvaluationDirectory(path, settings, layout)
        first = len(record.finished)
        if first:
            console.print(f"{first} of {len(problems.prompts)} problems were finished before")
        with console.status("sampling") as status:
            for batch in answers(config, evaluator, scorer, params, problems, first=first):
                for message in batch.messages:
                    console.print(printable(message), markup=False, soft_wrap=True)
                record.add(batch.problems)
                status.update(f"{len(record.finished)} of {len(problems.prompts)} problems")
    return record


def _settings(source: PolicySource, problems: Problems) -> dict[str, Any]:
    """Everything that determines the completions and their rewards.

    The number of problems sampled together is left out: completions do not depend on the others
    of their batch.
    """
    described = config_to_json(source.config)
    evaluation = dict(described["evaluation"])
    del evaluation["prompts_per_batch"], evaluation["num_prompts"]
    texts = [[prompt.index, prompt.category, prompt.text] for prompt in problems.prompts]
    return {
        "dvaojax": dvaojax.__version__,
        "policy": dict(source.identity),
        "task": described["task"],
        "problems": {"count": len(texts), "digest": digest(texts)},
        "evaluation": evaluation,
        **{name: described[name] for name in ("model", "seed", "max_new_tokens")},
    }


def _measure_settings(arguments: argparse.Namespace, config: Config) -> MeasureSettings:
    """The measures of every objective."""
    samples = config.evaluation.samples
    ks: Sequence[int] = arguments.pass_at or (1, samples)
    for k in ks:
        if not 1 <= k <= samples:
            raise UserError(f"--pass-at {k}: pass@k takes k from 1 to the {samples} samples drawn")
    task = config.task
    votes = {task.answer_objective: task.answer} if isinstance(task, TaskWithAnswers) else {}
    return MeasureSettings(tuple(sorted(set(ks))), arguments.pass_threshold, votes)


def _answer_set_measures(
    config: Config, evaluation: Evaluation, measures: MeasureSettings
) -> dict[str, Interval | None]:
    """Measures of completions with several answers; empty for other tasks."""
    if not isinstance(config.task, TaskWithAnswerSets):
        return {}
    return set_report(evaluation, num_answers=config.task.num_answers, ks=measures.ks)


def _title(source: PolicySource, num_problems: int) -> str:
    samples, sampling = source.config.evaluation.samples, source.config.evaluation.sampling
    return (
        f"{source.title}: {num_problems} problems of {source.config.task.name}, {samples} "
        f"completion{'s' * (samples > 1)} each at temperature {sampling.temperature:g}, "
        f"top-p {sampling.top_p:g}"
    )
