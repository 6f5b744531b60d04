"""Sampling and scoring of a policy's completions of held-out problems."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from dvaojax.config import evaluated_problems
from dvaojax.data.text import decode_completions, encode_prompts
from dvaojax.types import Completion, Prompt, Rollout, Scorer, Task

SampleFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], Rollout]


class AnsweredProblem(NamedTuple):
    """One problem with the policy's completions and their rewards.

    Attributes:
        prompt: the problem.
        completions: `G` completions.
        rewards: `[G, K]` float32, NaN where an objective does not apply or was not scored.
    """

    prompt: Prompt
    completions: Sequence[Completion]
    rewards: np.ndarray


class EvaluatedBatch(NamedTuple):
    """Problems that were sampled together.

    Attributes:
        problems: in the task's order.
        messages: one line per failed reward, for the user.
    """

    problems: Sequence[AnsweredProblem]
    messages: Sequence[str]


class Evaluation(NamedTuple):
    """All problems with completions and rewards.

    Attributes:
        names: `K` objectives.
        problems: in the task's order.
        messages: one line per failed reward, for the user.
    """

    names: tuple[str, ...]
    problems: Sequence[AnsweredProblem]
    messages: Sequence[str] = ()


class Problems(NamedTuple):
    """The problems of an evaluation, as text and as tokens.

    Attributes:
        prompts: the problems.
        tokens: `[B, P]` int32, padding on the right.
        lengths: `[B]` int32.
    """

    prompts: Sequence[Prompt]
    tokens: np.ndarray
    lengths: np.ndarray


def held_out_problems(task: Task, *, num_prompts: int) -> Problems:
    """The first `num_prompts` test problems of the task, or all of them if it is 0.

    Raises:
        UserError: a prompt is longer than the task allows.
    """
    prompts = evaluated_problems(task, num_prompts=num_prompts)
    return Problems(prompts, *encode_prompts(task.tokenizer, prompts, width=task.max_prompt_length))


def answer_problems(
    task: Task,
    scorer: Scorer,
    sample: SampleFunction,
    problems: Problems,
    *,
    batch_size: int,
    first: int = 0,
) -> Iterator[EvaluatedBatch]:
    """Samples and scores the problems batch by batch; the last batch is padded to full size.

    Args:
        task: its tokenizer decodes the completions.
        scorer: the task's objectives, ready to score.
        sample: (prompt tokens, prompt lengths, serials) -> completions. The serial of a problem is
            its index; every call has `batch_size` serials.
        problems: all problems of the evaluation.
        batch_size: problems sampled together.
        first: index of the problem to start with, the first one of a batch.

    Yields:
        The batches in order.
    """
    count = len(problems.prompts)
    for start in range(first, count, batch_size):
        batch = problems.prompts[start : start + batch_size]
        # The last batch is padded with copies of its last problem.
        rows = np.minimum(np.arange(start, start + batch_size, dtype=np.int32), count - 1)
        sampled = jax.device_get(sample(problems.tokens[rows], problems.lengths[rows], rows))
        completions = decode_completions(
            task.tokenizer, Rollout(*(array[: len(batch)] for array in sampled))
        )
        scores = scorer.score(completions, batch)
        rewards = np.where(scores.mask, scores.rewards, np.float32(np.nan))
        yield EvaluatedBatch(
            list(map(AnsweredProblem, batch, completions, rewards)), scores.messages
        )


def gather_batches(names: tuple[str, ...], batches: Iterable[EvaluatedBatch]) -> Evaluation:
    """Combines all batches into one evaluation.

    Args:
        names: `K` objectives.
        batches: in order.
    """
    problems: list[AnsweredProblem] = []
    messages: list[str] = []
    for batch in batches:
        problems += batch.problems
        messages += batch.messages
    return Evaluation(names, problems, messages)
