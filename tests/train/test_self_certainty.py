"""R3 as an objective of a run: references as tokens, the end of the reasoning, the rewards."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
from digits_run import digits_config, quick_programs

from dvaojax.config import Config, overrides, validate
from dvaojax.errors import UserError
from dvaojax.learning.reflection import SELF_CERTAINTY
from dvaojax.run.rows import read_rows
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.train import loop, train
from dvaojax.train.references import (
    encode_references,
    reasoning_length,
    reasoning_lengths,
    reference_width,
)
from dvaojax.types import Completion, Prompt


class Characters:
    """One token per character; 0 pads and stops."""

    vocab_size, pad_token, stop_tokens = 128, 0, (0,)

    def encode(self, text):
        return [ord(c) for c in text]

    def decode(self, token_ids):
        return "".join(chr(t) for t in token_ids if t)


def completion(text, *, stopped=True):
    tokens = (*map(ord, text), *((0,) if stopped else ()))
    return Completion(text, tokens, stopped)


def test_references_are_padded_and_others_have_no_token():
    prompts = [Prompt("?", reference, i) for i, reference in enumerate(["12", 345, {"a": 1}])]
    tokens, where = encode_references(Characters(), prompts, width=4)
    assert tokens.tolist() == [[49, 50, 0, 0], [51, 52, 53, 0], [0] * 4]
    assert where.sum(1).tolist() == [2, 3, 0]
    task = Arithmetic()
    answers = [prompt.reference for prompt in task.prompts("train")]
    assert reference_width(task) == max(map(len, answers))


def test_reasoning_ends_after_the_tag_or_before_the_stop_token():
    texts = ["a</think>42", "no tag", "</think>", "x</think>y</think>"]
    lengths = [reasoning_length(Characters(), completion(text)) for text in texts]
    assert lengths == [9, 6, 8, 9]
    assert reasoning_length(Characters(), completion("cut", stopped=False)) == 3
    groups = [[completion("ab")], []]
    assert reasoning_lengths(Characters(), groups, 2).tolist() == [[2, 0], [0, 0]]


def named(config: Config, *settings: str) -> Config:
    return overrides.apply(config, ["weights.self_certainty=0.5", *settings])


def test_a_weight_names_the_objective():
    config = named(Config())
    assert config.objectives[-1] == SELF_CERTAINTY
    assert config.objectives[:-1] == Config().objectives
    assert not Config().has_self_certainty
    validate(config)
    with pytest.raises(UserError, match="check_invariants reads the rewards"):
        validate(named(Config(), "aggregator.check_invariants=true"))


def test_references_must_be_texts():
    @dataclasses.dataclass(frozen=True)
    class Structured(Arithmetic):
        def prompts(self, split):
            return [dataclasses.replace(p, reference=[1]) for p in super().prompts(split)[:4]]

    with pytest.raises(UserError, match=r"references of task .* are of type list"):
        validate(named(Config(task=Structured())))


@pytest.mark.slow
def test_a_run_learns_from_it_with_refills_and_micro_batches(tmp_path):
    quick = digits_config(num_steps=2, warm_start={"num_steps": 0})
    config = named(quick, "learning.micro_batches=2", "allocation.refills=1")
    with quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        assert train(config, tmp_path)["steps"] == 2
    (directory,) = tmp_path.iterdir()
    for row in read_rows(directory / "metrics.jsonl"):
        assert row[f"reward/{SELF_CERTAINTY}"] < 0
        assert row[f"effective_weight/{SELF_CERTAINTY}"] > 0
        total = sum(w * row[f"reward/{name}"] for name, w in config.weights.items())
        np.testing.assert_allclose(row["weighted_reward"], total, rtol=1e-5)
