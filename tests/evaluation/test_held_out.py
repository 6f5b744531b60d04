"""Evaluation of a scripted policy with known completions."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax.evaluation.held_out import answer_problems, gather_batches, held_out_problems
from dvaojax.evaluation.measures import averages
from dvaojax.rewards import RewardSuite
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt, Rollout

TOKENIZER = CharacterTokenizer("ab=")
STOP = TOKENIZER.stop_tokens[0]


def is_right(completion, reference):
    return float(completion.text == reference)


def is_short(completion, reference):
    """Applies only to references of one letter."""
    return float(completion.length <= 2) if len(reference) == 1 else None


def never(completion, reference):
    return None


@dataclasses.dataclass(frozen=True)
class Copy:
    """A task: repeat the text before the equals sign."""

    name = "copy"
    tokenizer = TOKENIZER
    max_prompt_length = 4

    @property
    def objectives(self):
        return {"right": is_right, "short": is_short, "never": never}

    def prompts(self, split):
        assert split == "test"
        return [Prompt(f"{text}=", text, i) for i, text in enumerate(["a", "b", "ab", "bb"])]


class Policy:
    """Two completions of every problem: "a" with its stop token, and "bbb" cut off."""

    def __init__(self):
        self.serials = []

    def __call__(self, tokens, lengths, serials):
        assert tokens.shape == (len(serials), 4)
        assert lengths.tolist() == [[2, 2, 3, 3][i] for i in serials]
        self.serials.append(serials.tolist())
        [a, b] = TOKENIZER.encode("ab")
        groups = jnp.array([[[a, STOP, 0], [b, b, b]]] * len(serials), jnp.int32)
        mask = jnp.array([[[True, True, False], [True] * 3]] * len(serials))
        stopped = jnp.array([[True, False]] * len(serials))
        return Rollout(groups, mask, jnp.zeros(groups.shape), stopped)


def evaluated(*, num_prompts, batch_size, first=0):
    task, policy = Copy(), Policy()
    problems = held_out_problems(task, num_prompts=num_prompts)
    with RewardSuite(task.objectives) as suite:
        batches = answer_problems(task, suite, policy, problems, batch_size=batch_size, first=first)
        return list(batches), policy.serials


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_means_are_over_problems_and_skip_missing_rewards(batch_size):
    batches, serials = evaluated(num_prompts=3, batch_size=batch_size)
    measured = gather_batches(tuple(Copy().objectives), batches)
    assert {len(call) for call in serials} == {batch_size}
    assert [problem.prompt.reference for problem in measured.problems] == ["a", "b", "ab"]
    assert [[c.text for c in p.completions] for p in measured.problems] == [["a", "bbb"]] * 3
    # "a" is right in one of two completions, "b" and "ab" in none.
    means = {name: i and i["mean"] for name, i in averages(measured).items()}
    expected = {"right": (1 / 2 + 0 + 0) / 3, "short": 1 / 2, "never": None, "length": (2 + 3) / 2}
    assert means == pytest.approx(expected)
    assert np.isnan(measured.problems[2].rewards[:, 1]).all()
    assert all(math.isnan(r) for p in measured.problems for r in p.rewards[:, 2])


def test_serial_is_the_problem_index_for_any_batch_size():
    assert evaluated(num_prompts=4, batch_size=4)[1] == [[0, 1, 2, 3]]
    assert evaluated(num_prompts=4, batch_size=3)[1] == [[0, 1, 2], [3, 3, 3]]
    batches, serials = evaluated(num_prompts=4, batch_size=2, first=2)
    assert serials == [[2, 3]]
    assert [p.prompt.index for batch in batches for p in batch.problems] == [2, 3]
    assert evaluated(num_prompts=4, batch_size=2, first=4) == ([], [])


def test_zero_prompts_means_all():
    assert len(held_out_problems(Copy(), num_prompts=0).prompts) == 4
    assert len(held_out_problems(Copy(), num_prompts=99).prompts) == 4
