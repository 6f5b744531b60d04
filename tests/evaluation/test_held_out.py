"""The evaluation against a hand-made policy whose completions are known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax.evaluation.held_out import evaluate
from dvaojax.rewards import RewardSuite
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt, Rollout

TOKENIZER = CharacterTokenizer("ab=")
STOP = TOKENIZER.stop_tokens[0]


def is_right(completion, reference):
    return float(completion.text == reference)


def is_short(completion, reference):
    """Applies to references of one letter alone."""
    return float(completion.length <= 2) if len(reference) == 1 else None


def never(completion, reference):
    return None


@dataclasses.dataclass(frozen=True)
class Copy:
    """Say again what stands before the sign of equality."""

    name = "copy"
    tokenizer = TOKENIZER
    max_prompt_length = 4

    @property
    def objectives(self):
        return {"right": is_right, "short": is_short, "never": never}

    def prompts(self, split):
        assert split == "test"
        return [Prompt(f"{text}=", text, i) for i, text in enumerate(["a", "b", "ab", "bb"])]


def always_a_then_nothing(tokens, lengths, serials):
    """Two completions of every problem: "a" with its stop token, and "bbb" cut off."""
    assert tokens.shape == (len(serials), 4)
    assert lengths.tolist() == [2, 2, 3][: len(serials)]
    [a, b] = TOKENIZER.encode("ab")
    groups = jnp.array([[[a, STOP, 0], [b, b, b]]] * len(serials), jnp.int32)
    mask = jnp.array([[[True, True, False], [True] * 3]] * len(serials))
    stopped = jnp.array([[True, False]] * len(serials))
    return Rollout(groups, mask, jnp.zeros(groups.shape), stopped)


def test_means_are_over_problems_and_skip_what_does_not_apply():
    task = Copy()
    with RewardSuite(task.objectives) as suite:
        measured = evaluate(task, suite, always_a_then_nothing, num_prompts=3)
    assert [prompt.reference for prompt in measured.prompts] == ["a", "b", "ab"]
    assert [[c.text for c in group] for group in measured.completions] == [["a", "bbb"]] * 3
    # "a" is right in one of two completions, "b" and "ab" in none.
    means = {name: i and i["mean"] for name, i in measured.summary().items()}
    expected = {"right": (1 / 2 + 0 + 0) / 3, "short": 1 / 2, "never": None, "length": (2 + 3) / 2}
    assert means == pytest.approx(expected)
    assert np.isnan(measured.rewards[2, :, 1]).all()
    assert np.isnan(measured.rewards[..., 2]).all()
