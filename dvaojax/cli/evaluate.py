"""`dvaojax evaluate`: a policy on held-out problems, from where an earlier start stopped."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import dvaojax
from dvaojax import files
from dvaojax.cli import policy_source as subjects
from dvaojax.cli.answers import FAILED, answer
from dvaojax.cli.evaluation_table import table, table_of_sets
from dvaojax.cli.policy_source import Subject
from dvaojax.config import Config, validate_evaluation
from dvaojax.errors import UserError
from dvaojax.evaluation.answer_sets import set_report
from dvaojax.evaluation.held_out import Evaluation, Problems, problems_of
from dvaojax.evaluation.intervals import Interval
from dvaojax.evaluation.measures import Yardstick, report, report_by_category
from dvaojax.evaluation.record import Layout, Record, digest
from dvaojax.rewards import RewardError
from dvaojax.run import directory as run_directory
from dvaojax.train.evaluator import answers, batch_size_of, make_evaluator
from dvaojax.train.session import make_suite
from dvaojax.types import TaskWithAnswers, TaskWithAnswerSets, TaskWithNotes

# A table as wide as its numbers, where no terminal says how wide it may be.
_WIDTH = 160


def run(arguments: argparse.Namespace) -> int:
    """Evaluates the policy that the arguments name; returns the exit code."""
    subject = subjects.find(arguments)
    config = subject.config
    validate_evaluation(config)
    yardstick = _yardstick(arguments, config)
    problems = problems_of(config.task, num_prompts=config.evaluation.num_prompts)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    if isinstance(config.task, TaskWithNotes):
        console.print(*config.task.notes("test"), sep="\n", markup=False, soft_wrap=True)
    try:
        record = _answer(subject, problems, yardstick, arguments.out, console)
    except RewardError as failure:
        return answer(str(failure), FAILED)
    evaluation = Evaluation(config.objectives, record.finished)
    found, by_category = report(evaluation, yardstick), report_by_category(evaluation, yardstick)
    of_sets = _of_sets(config, evaluation, yardstick)
    files.write_json(
        record.summary,
        {
            "pass_threshold": yardstick.pass_threshold,
            "samples": config.evaluation.samples,
            **found.to_json(),
            "categories": {name: some.to_json() for name, some in by_category.items()},
            **(
                {"answer_sets": {m: i and i._asdict() for m, i in of_sets.items()}}
                if of_sets
                else {}
            ),
        },
    )
    console.print(_title(subject, found.num_problems))
    console.print(table(found, by_category))
    if of_sets:
        console.print("all answers of all completions of a problem, and 95 % intervals:")
        console.print(table_of_sets(of_sets))
    console.print(f"completions and numbers: {record.path}", soft_wrap=True)
    return 0


def _answer(
    subject: Subject,
    problems: Problems,
    yardstick: Yardstick,
    out: Path | None,
    console: Console,
) -> Record:
    """Samples and scores what is not in the record yet."""
    config = subject.config
    evaluator = make_evaluator(config)
    params = subject.load(evaluator.mesh)
    layout = Layout(
        prompts=problems.prompts,
        samples=config.evaluation.samples,
        batch_size=batch_size_of(config, evaluator.mesh, len(problems.prompts)),
        objectives=config.objectives,
        answer=config.task.answer if isinstance(config.task, TaskWithAnswers) else None,
    )
    settings = _settings(subject, problems)
    name = f"{config.task.name}-{subject.name}-{digest(settings)}"
    with make_suite(config) as suite:
        record = Record(out or subject.home / name, settings, layout)
        first = len(record.finished)
        if first:
            console.print(f"{first} of {len(problems.prompts)} problems were finished before")
        with console.status("sampling") as status:
            for batch in answers(config, evaluator, suite, params, problems, first=first):
                for message in batch.messages:
                    console.print(message, markup=False, soft_wrap=True)
                record.add(batch.problems)
                status.update(f"{len(record.finished)} of {len(problems.prompts)} problems")
    return record


def _settings(subject: Subject, problems: Problems) -> dict[str, Any]:
    """All that completions and their rewards follow from.

    How many problems are sampled together is none of it: no completion depends on its company.
    """
    described = run_directory.config_to_json(subject.config)
    evaluation = dict(described["evaluation"])
    del evaluation["prompts_per_batch"], evaluation["num_prompts"]
    texts = [[prompt.index, prompt.category, prompt.text] for prompt in problems.prompts]
    return {
        "dvaojax": dvaojax.__version__,
        "policy": dict(subject.identity),
        "task": described["task"],
        "problems": {"count": len(texts), "digest": digest(texts)},
        "evaluation": evaluation,
        **{name: described[name] for name in ("model", "seed", "max_new_tokens")},
    }


def _yardstick(arguments: argparse.Namespace, config: Config) -> Yardstick:
    """What is measured of every objective."""
    samples = config.evaluation.samples
    ks: Sequence[int] = arguments.pass_at or (1, samples)
    for k in ks:
        if not 1 <= k <= samples:
            raise UserError(f"--pass-at {k}: pass@k takes k from 1 to the {samples} samples drawn")
    task = config.task
    votes = {task.answer_objective: task.answer} if isinstance(task, TaskWithAnswers) else {}
    return Yardstick(tuple(sorted(set(ks))), arguments.pass_threshold, votes)


def _of_sets(
    config: Config, evaluation: Evaluation, yardstick: Yardstick
) -> dict[str, Interval | None]:
    """What sets of answers came to; nothing for tasks without."""
    if not isinstance(config.task, TaskWithAnswerSets):
        return {}
    return set_report(evaluation, num_answers=config.task.num_answers, ks=yardstick.ks)


def _title(subject: Subject, num_problems: int) -> str:
    samples, sampling = subject.config.evaluation.samples, subject.config.evaluation.sampling
    return (
        f"{subject.title}: {num_problems} problems of {subject.config.task.name}, {samples} "
        f"completion{'s' * (samples > 1)} each at temperature {sampling.temperature:g}, "
        f"top-p {sampling.top_p:g}"
    )
