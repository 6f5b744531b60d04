"""Evaluation of a policy: its compiled sampler, and sampling and scoring of completions."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

from dvaojax import sharding
from dvaojax.config import Config
from dvaojax.evaluation.held_out import (
    EvaluatedBatch,
    Evaluation,
    Problems,
    answer_problems,
    gather_batches,
    held_out_problems,
)
from dvaojax.models import Params
from dvaojax.train import hosts
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.program import Program, Sampler, checked_mesh, evaluation_sampler
from dvaojax.train.scoring import SharedScorer
from dvaojax.types import Rollout, Scorer


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """The compiled sampler of an evaluation, and the sharding of its arrays.

    Attributes:
        mesh: the devices.
        by_group: sharding of arrays whose leading axis is the groups.
        sample: (parameters, prompt tokens, prompt lengths, key, serials) -> completions.
    """

    mesh: Mesh
    by_group: NamedSharding
    sample: Sampler


def make_evaluator(config: Config) -> Evaluator:
    """An evaluator without a training program, for a policy that is not trained here.

    Raises:
        UserError: the mesh does not fit the devices or the model.
    """
    mesh = checked_mesh(config, {})
    return Evaluator(mesh, sharding.named(mesh, "group"), evaluation_sampler(config, mesh))


def evaluator_of(program: Program) -> Evaluator:
    """The evaluator of a training run, which shares its compiled sampler."""
    return Evaluator(program.mesh, program.by_group, program.evaluate)


def answers(
    config: Config,
    evaluator: Evaluator,
    scorer: Scorer,
    params: Params,
    problems: Problems,
    *,
    first: int = 0,
) -> Iterator[EvaluatedBatch]:
    """Yields a policy's answers batch by batch; every call uses the same random keys.

    Args:
        config: the run.
        evaluator: of the same run.
        scorer: its objectives, ready to score.
        params: the policy.
        problems: all problems of the evaluation.
        first: index of the problem to start with, the first one of a batch.
    """
    key = run_key(config, KeyPurpose.EVALUATION)

    def sample(tokens: np.ndarray, lengths: np.ndarray, serials: np.ndarray) -> Rollout:
        placed: tuple[Array, ...] = hosts.place((tokens, lengths, serials), evaluator.by_group)
        tokens_, lengths_, serials_ = placed
        return hosts.whole(evaluator.sample(params, tokens_, lengths_, key, serials_))

    batch_size = batch_size_of(config, evaluator.mesh, len(problems.prompts))
    shared = SharedScorer(scorer)
    return answer_problems(
        config.task, shared, sample, problems, batch_size=batch_size, first=first
    )


def batch_size_of(config: Config, mesh: Mesh, num_problems: int) -> int:
    """Number of problems sampled together, rounded up to a multiple of the mesh's group shards."""
    settings = config.evaluation
    in_training = config.prompts_per_step * config.group_size // settings.samples
    size = min(settings.prompts_per_batch or max(in_training, 1), num_problems)
    tables = (sharding.RULES, sharding.SAMPLER_RULES[config.mesh.sampler])
    parts = math.lcm(*(sharding.num_parts(mesh, "group", rules)[1] for rules in tables))
    return -(-size // parts) * parts


def evaluate_policy(
    config: Config, evaluator: Evaluator, scorer: Scorer, params: Params
) -> Evaluation:
    """Evaluates a policy on the task's held-out problems."""
    problems = held_out_problems(config.task, num_prompts=config.evaluation.num_prompts)
    batches = answers(config, evaluator, scorer, params, problems)
    return gather_batches(config.objectives, batches)
