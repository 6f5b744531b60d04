"""Hints for failed problems: levels against a simulation, the experience, and an exact resume."""

import dataclasses
import random
from unittest import mock

import digits_run
import jax
import numpy as np
import pytest
from digits_run import digits_config

from dvaojax import files, sharding
from dvaojax.allocation import initial_statistics
from dvaojax.config import Config, HintConfig, validate
from dvaojax.data.stream import ShuffledPrompts
from dvaojax.errors import UserError
from dvaojax.rewards import RewardSuite
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.train import loop, train
from dvaojax.train.allocation_state import DataState, Uniform
from dvaojax.train.batches import PromptBatches
from dvaojax.train.collect import Collector
from dvaojax.train.hints import Hints, check_hinted_prompts
from dvaojax.types import Rollout, Scores, TaskWithHints

LEVELS = 3


@dataclasses.dataclass(frozen=True)
class HintedDigits(digits_run.Digits):
    """The problems with hints, which are signs of equality."""

    num_train: int = 7
    hint_levels: int = LEVELS

    max_prompt_length = 7

    def hinted(self, prompt, level):
        return dataclasses.replace(prompt, text=prompt.text + "=" * level)


def success_of(needs):
    """A sampler whose completions succeed from some level of hints on, for each problem.

    One of two completions then succeeds. Serials, keys and sizes of every call are recorded.
    """
    calls = []

    def sampler(params, tokens, lengths, key, serials, sizes):
        texts = [digits_run.Digits.tokenizer.decode(row) for row in np.asarray(tokens)]
        calls.append((texts, np.asarray(serials).tolist(), np.asarray(sizes).tolist()))
        succeeds = [t.count("=") >= needs[int(t.strip("+=")[0])] for t in texts]
        rows = [["7" if s else "+", "+"] for s in succeeds]
        encode = digits_run.Digits.tokenizer.encode
        drawn = np.array([[[*encode(text), 1] for text in row] for row in rows], np.int32)
        mask = np.arange(2)[None, :, None] < np.asarray(sizes)[:, None, None]
        mask = np.broadcast_to(mask, drawn.shape)
        logprobs = np.where(mask, -1.0 - np.asarray(lengths)[:, None, None], 0.0)
        arrays = (np.where(mask, drawn, 0), mask, logprobs.astype(np.float32), mask[..., 0])
        return Rollout(*map(jax.numpy.asarray, arrays))

    return sampler, calls


def make_collector(sampler, *, rounds=1, refills=0):
    task, mesh = HintedDigits(), sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
    stream = ShuffledPrompts(task.prompts("train"), seed=4)
    rows = {prompt.index: row for row, prompt in enumerate(task.prompts("train"))}
    objectives = {"digits": task.objectives["digits"]}
    return Collector(
        batches=PromptBatches(
            task, stream, sharding.named(mesh, "group"), prompts_per_step=4, kept=2, row_of=rows
        ),
        tokenizer=task.tokenizer,
        scorer=RewardSuite(objectives),
        sampler=sampler,
        allocation=Uniform(2),
        refills=refills,
        key=jax.random.key(8),
        hints=Hints(column=0, success=1.0, rounds=rounds, levels=LEVELS),
    )


def simulated(state, problems, needs, rounds):
    """Levels of the last asks of a step's problems, with a plain loop; changes the state.

    `state[problem]` is the number of levels that have failed. The two copies of a problem in one
    step read the same state.
    """
    for problem in problems:
        if needs[problem] == 0:
            state[problem] = 0
    levels = dict.fromkeys(range(len(problems)), 0)
    waiting = [i for i, problem in enumerate(problems) if needs[problem] > 0]
    for _ in range(rounds):
        before = dict(state)
        again = []
        for i in waiting:
            problem = problems[i]
            levels[i] = min(before[problem] + 1, LEVELS)
            if needs[problem] > levels[i]:
                state[problem] = max(state[problem], min(levels[i], LEVELS - 1))
                again += [i] * (levels[i] < LEVELS)
        waiting = again
    return list(levels.values())


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_levels_escalate_as_in_a_simulation(rounds):
    generator = random.Random(rounds)
    needs = {problem: generator.randrange(LEVELS + 2) for problem in range(7)}
    sampler, _ = success_of(needs)
    collector = make_collector(sampler, rounds=rounds)
    data = DataState(0, initial_statistics(0, 1), failed_levels=np.zeros(7, np.int32))
    state = dict.fromkeys(range(7), 0)
    for step in range(12):
        if step == 6:  # the policy has learned some problems, and forgotten others
            needs.update({p: generator.randrange(LEVELS + 2) for p in range(7)})
        rollout, data = collector.start_rollout("parameters", data)
        collected, data = collector.collect("parameters", rollout, data)
        problems = [prompt.index for prompt in collected.prompts]
        levels = simulated(state, problems, needs, rounds)
        assert [prompt.text.count("=") for prompt in collected.prompts] == levels
        assert data.failed_levels.tolist() == list(state.values())
        experience = jax.device_get(collected.experience)
        for b, (problem, level) in enumerate(zip(problems, levels, strict=True)):
            length = experience.prompt_lengths[b]
            text = collector.tokenizer.decode(experience.prompt_tokens[b, :length])
            assert (
                text
                == collected.prompts[b].text
                == "+" * (problem % 3) + f"{problem}" + ("=" * level)
            )
            # The sampler's own log-probabilities given that prompt.
            assert (experience.logprobs[b] == -1.0 - length).all()
            expected = [1.0, 0.0] if level >= needs[problem] else [0.0, 0.0]
            assert experience.rewards[b, :, 0].tolist() == expected
        measures, failed = collected.measures, [needs[p] > 0 for p in problems]
        assert measures["hints/problems"] == sum(failed)
        assert measures["hints/solved_without"] == 1 - sum(failed) / 4
        counts = [levels.count(n) for n in range(1, LEVELS + 1)]
        assert [measures[f"hints/level_{n}"] for n in range(1, LEVELS + 1)] == counts
        helped = [
            f and levels[i] >= needs[p]
            for i, (p, f) in enumerate(zip(problems, failed, strict=True))
        ]
        assert measures["hints/helped"] == sum(helped)


def test_only_failed_problems_are_asked_again_with_keys_of_their_own():
    needs = {problem: 2 if problem % 2 else 0 for problem in range(7)}
    sampler, calls = success_of(needs)
    collector = make_collector(sampler, rounds=3)
    data = DataState(0, initial_statistics(0, 1), failed_levels=np.zeros(7, np.int32))
    rollout, data = collector.start_rollout("parameters", data)
    collected, _ = collector.collect("parameters", rollout, data)
    failed = [prompt.index % 2 for prompt in collected.prompts]
    assert len(calls) == 3, "without a hint, and with the first two"
    for level, (_, serials, sizes) in enumerate(calls):
        assert sizes == [2 if f or not level else 0 for f in failed]
        assert serials == [i + level * 2**28 * f for i, f in enumerate(failed)]
    assert collected.measures["sampled_tokens"] == 2 * 2 * (4 + 2 * sum(failed))


def test_refills_come_after_hints_and_have_none():
    sampler, calls = success_of(dict.fromkeys(range(7), LEVELS + 1))
    collector = make_collector(sampler, refills=1)
    data = DataState(0, initial_statistics(0, 1), failed_levels=np.zeros(7, np.int32))
    rollout, data = collector.start_rollout("parameters", data)
    collected, data = collector.collect("parameters", rollout, data)
    assert [texts[0].count("=") for texts, *_ in calls] == [0, 1, 0]
    assert data.position == 8
    assert collected.measures["refilled_groups"] == 4
    assert sum(data.failed_levels) == 4


def test_a_group_without_rewards_has_neither_failed_nor_succeeded():
    rewards = np.array([[[0.0], [0.0]], [[1.0], [0.0]], [[0.0], [1.0]], [[0.5], [0.0]]])
    mask = np.array([[[0], [0]], [[1], [1]], [[1], [0]], [[1], [1]]], bool)
    scores = Scores(rewards, mask, {}, [])
    solved, failed = Hints(0, success=1.0, rounds=1, levels=1).outcomes(scores)
    assert solved.tolist() == [False, True, False, False]
    assert failed.tolist() == [False, False, True, True]
    assert Hints(0, success=0.5, rounds=1, levels=1).outcomes(scores)[0].tolist() == [
        False, True, False, True,
    ]  # fmt: skip


def test_hints_of_the_built_in_task_are_the_first_columns():
    task = Arithmetic(hint_levels=3)
    assert isinstance(task, TaskWithHints)
    prompt = dataclasses.replace(task.prompts("train")[0], text="347+586=", reference="933")
    hinted = [task.hinted(prompt, level).text for level in (1, 2, 3)]
    assert hinted[0] == "347+586=7+6=13;"
    assert hinted[1] == "347+586=7+6=13;4+8+1=13;"
    assert hinted[2] == "347+586=7+6=13;4+8+1=13;3+5+1=9;"
    check_hinted_prompts(Config(task=task, hints=HintConfig("accuracy")))
    longest = dataclasses.replace(prompt, text="999+999=")
    assert 0 <= task.max_prompt_length - len(task.hinted(longest, 3).text) <= 2
    assert Arithmetic().max_prompt_length == 8
    with pytest.raises(ValueError, match=r"task\.hint_levels=4 must lie between 0 and"):
        Arithmetic(hint_levels=4)


def test_settings_that_give_no_hints_are_refused():
    hinted = dataclasses.replace(digits_run.CONFIG, task=HintedDigits())
    validate(dataclasses.replace(hinted, hints=HintConfig("digits")))
    with pytest.raises(UserError, match=r"hints\.objective: unknown 'digit'"):
        validate(dataclasses.replace(hinted, hints=HintConfig("digit")))
    for task in (digits_run.Digits(), HintedDigits(hint_levels=0), HintedDigits(hint_levels=8)):
        changed = dataclasses.replace(hinted, task=task, hints=HintConfig("digits"))
        with pytest.raises(UserError, match=r"hints\.objective=digits: task digits has [08] lev"):
            validate(changed)
    with pytest.raises(ValueError, match=r"hints\.rounds=0 must be at least 1"):
        HintConfig("digits", rounds=0)
    wide = dataclasses.replace(hinted, task=HintedDigits(hint_levels=7), hints=HintConfig("digits"))
    with pytest.raises(UserError, match=r"task\.max_prompt_length"):
        check_hinted_prompts(wide)


def run_config(**changes):
    """A run in which random policies fail often and succeed sometimes."""
    return digits_config(
        task=HintedDigits(),
        hints=HintConfig("largest", success=0.0, rounds=2),
        checkpoints={"every": 3},
        **changes,
    )


@pytest.mark.nightly
@pytest.mark.slow
def test_resumed_runs_with_hints_are_equal_and_on_policy(tmp_path):
    """Every prompt is that of its level, and the ratio to the sampler is 1 also on hinted ones."""
    config = run_config(num_steps=6, samples_per_step=8)
    run = tmp_path / config.name
    with mock.patch.object(loop, "plot_run", return_value=[]), digits_run.make_mesh_of(1):
        train(config, tmp_path)
        rows, samples = (files.read_json_lines(run / f) for f in (files.METRICS, files.SAMPLES))
        train(config, tmp_path, start="resume", from_step=3)
    again = files.read_json_lines(run / files.METRICS)
    assert deterministic(again) == deterministic(rows)
    assert files.read_json_lines(run / files.SAMPLES) == samples
    asked = [row["hints/problems"] for row in rows]
    assert 0 < sum(row["hints/helped"] for row in rows) < sum(asked)
    for row in rows:
        levels = [row[f"hints/level_{n}"] for n in range(1, LEVELS + 1)]
        assert sum(levels) == row["hints/problems"] >= row["hints/helped"]
        assert row["hints/solved_without"] == 1 - row["hints/problems"] / 2
        assert row["ratio"] == pytest.approx(1.0, abs=1e-5)
        shown = {s["prompt"].count("=") for s in samples if s["step"] == row["step"]}
        assert shown
        assert all(levels[level - 1] if level else sum(levels) < 2 for level in shown)
    later = [row for row in rows if row["step"] > 3]
    assert sum(row["hints/level_2"] + row["hints/level_3"] for row in later) > 0


def deterministic(rows):
    """Rows without durations."""
    timed = ("seconds", "tokens_per_second", "mfu", "flops")
    return [{k: v for k, v in row.items() if not any(t in k for t in timed)} for row in rows]
