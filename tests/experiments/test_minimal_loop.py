"""The readable training loop learns all three objectives, for every seed, and stays short."""

import ast
from pathlib import Path

import jax
import minimal_loop
import numpy as np
import pytest
from documentation import ROOT
from slowness import nightly_but

from dvaojax.types import Completion

SOURCE = Path(minimal_loop.__file__).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("seed", nightly_but([0], [0, 1, 2]))
def test_every_objective_rises(seed):
    lines = []
    with jax.numpy_dtype_promotion("standard"):  # of optax.adam
        curve = np.asarray(minimal_loop.train(seed, report=lines.append))
    assert curve.shape == (minimal_loop.NUM_STEPS, 3)
    begin, end = curve[0], curve[-10:].mean(axis=0)
    gains = end - begin
    assert (gains > [0.25, 0.15, 0.4]).all(), gains
    assert lines[0].startswith("step   0  copies 0.")
    assert lines[-1].startswith(f"step {minimal_loop.NUM_STEPS - 1:3d}  ")


def test_the_file_is_short_and_uses_public_names_only():
    length = len(SOURCE.splitlines())
    assert length <= 150
    assert f"in {length} lines" in (ROOT / "README.md").read_text()
    tree = ast.parse(SOURCE)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not any(part.startswith("_") for part in (node.module or "").split("."))
            assert not any(alias.name.startswith("_") for alias in node.names)


@pytest.mark.parametrize("text", ["bbbbbbbb", "aaaaaaaa", "babababa", "bbaa", "cdcdcdcd", ""])
def test_copies_and_vowels_conflict(text):
    completion = Completion(text, (2,) * minimal_loop.LENGTH, stopped=False)
    both = minimal_loop.copies(completion, "b") + minimal_loop.vowels(completion, "b")
    assert both == sum(letter in "b" + minimal_loop.VOWELS for letter in text) / 8
    assert both <= 1.0


def test_the_best_completion_alternates_the_prompt_with_vowels():
    completion = Completion("babebobo", (2,) * minimal_loop.LENGTH, stopped=False)
    rewards = [
        reward(completion, "b")
        for reward in (minimal_loop.copies, minimal_loop.vowels, minimal_loop.alternation)
    ]
    assert rewards == [0.5, 0.5, 1.0]
