"""Trusted problems: held out from training, disjoint from the problems of the evaluation."""

from collections.abc import Sequence

from dvaojax.config.schema import Config
from dvaojax.errors import UserError
from dvaojax.types import Prompt, Task


def trusted_problems(config: Config) -> list[Prompt]:
    """The last problems of the task's test split, whose gradients choose those to train on.

    Empty if the run does not choose problems by trusted ones.
    """
    allocation = config.allocation
    if not allocation.selects or allocation.evidence != "trusted":
        return []
    return list(config.task.prompts("test"))[-allocation.selection.trusted :]


def evaluated_problems(task: Task, *, num_prompts: int) -> list[Prompt]:
    """The first `num_prompts` problems of the task's test split, or all if it is 0."""
    return list(task.prompts("test"))[: num_prompts or None]


def check_disjoint(trusted: Sequence[Prompt], evaluated: Sequence[Prompt], *, remedy: str) -> None:
    """Compares trusted problems with those of an evaluation by their texts.

    Args:
        trusted: of a run.
        evaluated: of an evaluation.
        remedy: end of the message.

    Raises:
        UserError: a problem is among both.
    """
    texts = {prompt.text for prompt in trusted}
    both = [prompt for prompt in evaluated if prompt.text in texts]
    if both:
        raise UserError(
            f"{len(both)} of the {len(evaluated)} problems of the evaluation, such as "
            f"{both[0].text!r:.60}, are among the {len(trusted)} trusted ones by which the run "
            f"chooses problems (allocation.selection.trusted), so they are not held out: {remedy}"
        )


def check_selection(config: Config) -> None:
    """Compares the settings of the choice of problems with the rest of the run.

    Raises:
        UserError: a number does not divide into batches, there are too few problems, or a trusted
            problem is among those of the evaluation.
    """
    if not config.allocation.selects:
        return
    settings, size = config.allocation.selection, config.prompts_per_step
    trusted = trusted_problems(config)
    numbers = {"candidates": settings.candidates, "trusted": settings.trusted if trusted else 0}
    for name, number in numbers.items():
        if number % size:
            raise UserError(
                f"allocation.selection.{name}={number} must be a multiple of "
                f"prompts_per_step={size}, the problems that are sampled together"
            )
    available = len(config.task.prompts("train"))
    if settings.candidates > available:
        raise UserError(
            f"allocation.selection.candidates={settings.candidates} must not exceed the "
            f"{available} training problems of task {config.task.name}"
        )
    number = len(config.task.prompts("test"))
    if len(trusted) < numbers["trusted"] or len(trusted) >= number:
        raise UserError(
            f"allocation.selection.trusted={settings.trusted} must leave test problems for the "
            f"evaluation: task {config.task.name} has {number}"
        )
    evaluated = evaluated_problems(config.task, num_prompts=config.evaluation.num_prompts)
    remedy = f"set evaluation.num_prompts to at most {number - len(trusted)}"
    if len(evaluated) + len(trusted) <= number:
        remedy = "a problem occurs twice in the test split, remove one of them"
    check_disjoint(trusted, evaluated, remedy=remedy)
