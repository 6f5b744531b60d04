"""Runs that choose their problems by gradients: exact gradients, rounds, resuming, and sweeps."""

import dataclasses
from unittest import mock

import chex
import digits_run
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits_run import Digits, make_mesh_of, quick_programs

from dvaojax import files
from dvaojax.allocation import SelectionConfig
from dvaojax.cli import policy_source
from dvaojax.config import make_aggregator, overrides, trusted_problems, validate
from dvaojax.errors import UserError
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch, make_policy_loss
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.sweep import Sweep
from dvaojax.sweep.grid import CellKey, cell_at
from dvaojax.sweep.runner import CellRunner
from dvaojax.train import loop, train
from dvaojax.train.allocation_state import DataState, initial_data_state
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.program import make_program
from dvaojax.train.progress import checkpoint_shapes
from dvaojax.train.scoring import make_scorer
from dvaojax.train.selection import make_selector
from dvaojax.train.step_log import StepLog

STEPS, EVERY, CANDIDATES, CHOSEN, TRUSTED = 5, 2, 6, 3, 4
SELECTION = SelectionConfig(
    candidates=CANDIDATES, chosen=CHOSEN, every=EVERY, trusted=TRUSTED, dimension=1024
)


def config_of(mode="sim", **changes):
    return digits_run.digits_config(
        task=Digits(num_train=9),
        num_steps=STEPS,
        warm_start={"num_steps": 0},
        checkpoints={"every": 1, "keep_latest": 9},
        allocation={"name": "gradalign", "options": (f"mode={mode}",), "selection": SELECTION},
        **changes,
    )


CONFIG = config_of()


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        yield


def rows(runs):
    """`metrics.jsonl` without wall times."""
    return [
        {k: v for k, v in row.items() if not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(runs / "mini" / files.METRICS)
    ]


def checkpoint(config, runs, step):
    with make_mesh_of(1):
        shapes = checkpoint_shapes(config, make_program(config, make_aggregator(config)))
    arrays, extra = SavedCheckpoints(runs / "mini" / files.CHECKPOINTS).restore(shapes, step=step)
    arrays["state"] = arrays["state"]._replace(key=jax.random.key_data(arrays["state"].key))
    return jax.device_get(arrays), extra


@pytest.fixture(scope="module")
def prompts_of_steps():
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, prompts_of_steps):
    """A finished run; the prompts of its steps are recorded."""
    runs, add = tmp_path_factory.mktemp("finished"), StepLog.add

    def record(self, step):
        prompts_of_steps.append([prompt.index for prompt in step.collected.prompts])
        add(self, step)

    with mock.patch.object(StepLog, "add", record):
        train(CONFIG, runs)
    return runs


class Parts:
    """The parts of a run's choices, for calls outside a run."""

    def __init__(self, config):
        self.program = make_program(config, make_aggregator(config), devices=jax.devices()[:1])
        self.select = make_selector(config, self.program, make_scorer(config))
        params = self.program.init(run_key(config, KeyPurpose.PARAMETERS))
        self.state = self.program.begin(params, run_key(config, KeyPurpose.STEPS))


def exact(parts, collector, positions, statistics):
    """Gradients `[M, P]` of the mean loss of each group, without a projection."""
    state, size = parts.state, CONFIG.prompts_per_step
    loss = make_policy_loss(
        LossConfig(), model=CONFIG.model, temperature=1.0, max_new_tokens=CONFIG.max_new_tokens
    )

    @jax.jit
    @jax.grad
    def gradient(params, group):
        total, metrics = loss(params, group)
        return total / metrics["loss"].count

    gradients = []
    for first in positions[::size]:
        data = DataState(first, statistics)
        rollout, data = collector.start_rollout(state.learner.params, data)
        experience = collector.collect(state.learner.params, rollout, data)[0].experience
        advantages, _ = make_aggregator(CONFIG).update(
            experience.rewards, experience.reward_mask, (), state.key
        )
        batch = PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs))
        for b in range(size):
            group = jax.tree.map(lambda a, b=b: a[b : b + 1], batch)
            leaves = jax.tree.leaves(gradient(state.learner.params, group))
            gradients.append(np.concatenate([np.ravel(leaf) for leaf in leaves]))
    return np.stack(gradients).astype(np.float64)


@pytest.mark.slow
def test_choices_are_those_of_exact_gradients_of_all_parameters():
    """With the positions, keys and advantages of the run; the projection adds its error."""
    parts, data = Parts(CONFIG), initial_data_state(CONFIG)
    after, measures = parts.select(parts.state, data)
    number, statistics = 0, data.statistics
    own = exact(parts, parts.select.candidates, range(CANDIDATES), statistics)
    direction = exact(parts, parts.select.trusted, range(TRUSTED), statistics).sum(axis=0)
    expected = own @ direction / np.linalg.norm(own, axis=1) / np.linalg.norm(direction)
    stream = parts.select.candidates.batches
    rows = np.concatenate([stream.at(range(i, i + 2)).rows for i in (0, 2, 4)])
    aligned = after.statistics.alignment[rows]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(aligned, expected, atol=0.02)
    norms = np.linalg.norm(own, axis=1)
    np.testing.assert_allclose(after.statistics.gradient_norm[rows], norms, rtol=1e-3)
    assert set(after.chosen[number]) == set(np.argsort(-aligned)[:CHOSEN])
    assert (after.chosen[1:] == -1).all()
    assert after.position == 0
    assert measures["selection/candidates/alignment"] == pytest.approx(aligned.mean(), rel=1e-5)
    best = np.sort(aligned)[-CHOSEN:].mean()
    assert measures["selection/chosen/alignment"] == pytest.approx(best, rel=1e-5)
    again, nothing = parts.select(parts.state, after)
    assert again is after
    assert nothing == {}
    assert after.statistics.count.sum() > 0


def test_steps_train_on_the_chosen_problems_in_rounds(finished, prompts_of_steps):
    chosen = checkpoint(CONFIG, finished, STEPS)[0]["chosen"]
    assert chosen.shape == (3, CHOSEN)
    stream = loop.training_stream(CONFIG.task, seed=CONFIG.seed)
    for number, sources in enumerate(chosen):
        first = number * CANDIDATES
        assert all(first <= source < first + CANDIDATES for source in sources)
        allowed = [prompt.index for prompt in stream.take(sources.tolist())]
        steps = prompts_of_steps[number * EVERY : (number + 1) * EVERY]
        trained = [index for step in steps for index in step]
        assert set(trained) <= set(allowed)
        assert len(set(trained[:CHOSEN])) == len(set(allowed)) or len(trained) < CHOSEN
    logged = [{k for k in row if k.startswith("selection/")} for row in rows(finished)]
    assert [bool(names) for names in logged] == [True, False, True, False, True]
    assert len(logged[0]) == 8


class Killed(BaseException):
    """Ends a run in the middle of a step, like a kill."""


@pytest.mark.parametrize(
    ("depth", "kills"),
    [
        (0, (5,)),
        pytest.param(0, (2, 4), marks=pytest.mark.nightly),
        pytest.param(1, (4, 5), marks=pytest.mark.nightly),
    ],
)
def test_killed_run_resumes_bit_for_bit(finished, tmp_path, depth, kills):
    """Killed in steps within a round, and in 5, which chooses; the step before was saved."""
    config = dataclasses.replace(CONFIG, pipeline_depth=depth)
    whole = finished
    if depth:
        whole = tmp_path / "whole"
        train(config, whole)
    add = StepLog.add
    for last in kills:

        def die(self, step, last=last):
            add(self, step)
            if step.number == last:
                raise Killed

        start = "create" if last == kills[0] else "resume"
        with mock.patch.object(StepLog, "add", die), pytest.raises(Killed):
            train(config, tmp_path / "killed", start=start)
    train(config, tmp_path / "killed", start="resume")
    assert rows(tmp_path / "killed") == rows(whole)
    for step in (3, STEPS):
        one, other = (checkpoint(config, runs, step) for runs in (whole, tmp_path / "killed"))
        chex.assert_trees_all_equal(one[0], other[0])
        assert {k: v for k, v in one[1].items() if k != "seconds"} == {
            k: v for k, v in other[1].items() if k != "seconds"
        }
    assert one[0]["statistics"].alignment.any()


@pytest.mark.nightly
def test_candidates_without_advantages_have_alignment_zero():
    """With the threshold above every advantage."""
    selection = dataclasses.replace(SELECTION, zero_advantage=1e9)
    config = dataclasses.replace(
        CONFIG, allocation=dataclasses.replace(CONFIG.allocation, selection=selection)
    )
    parts = Parts(config)
    after, _ = parts.select(parts.state, initial_data_state(config))
    assert not after.statistics.alignment.any()
    assert not after.statistics.gradient_norm.any()
    assert after.chosen[0].tolist() == [0, 1, 2]


@pytest.mark.nightly
def test_a_cell_of_a_sweep_chooses_the_problems_of_a_run(finished):
    """The aggregator of a sweep is in its state; a second method is in the same program."""
    methods = {"dvao": ("aggregator=dvao",), "gdpo": ("aggregator=gdpo",)}
    sweep = Sweep(
        name="mini",
        base=CONFIG,
        situations={"only": ()},
        methods=methods,
        trade_offs={"even": ()},
        seeds=(CONFIG.seed,),
        against="dvao",
    )
    with CellRunner(sweep) as runner:
        outcome = runner.run(cell_at(sweep, CellKey("only", CONFIG.seed, "dvao", "even")))
    for name in CONFIG.objectives:
        during = np.mean([row[f"reward/{name}"] for row in rows(finished)])
        assert outcome.during[name] == pytest.approx(during, abs=1e-5)


@pytest.mark.nightly
def test_modes_take_only_what_they_are_about():
    sampled = []
    for mode, groups in (("rand", 0), ("accgreedy", 3), ("align", 3), ("dot", 5)):
        config = config_of(mode)
        parts = Parts(config)
        call, count = parts.program.group_gradients, mock.Mock()
        count.side_effect = call
        select = dataclasses.replace(parts.select, group_gradients=count)
        after, _ = select(parts.state, initial_data_state(config))
        sampled.append(count.call_count)
        assert (after.statistics.count.sum() > 0) == (groups > 0)
        assert after.statistics.alignment.any() == (mode == "dot")
        assert (after.chosen[0] >= 0).all()
    assert sampled == [0, 0, 3, 5]


def test_trusted_problems_are_the_last_and_an_overlap_is_refused():
    validate(CONFIG)
    tests = CONFIG.task.prompts("test")
    assert trusted_problems(CONFIG) == list(tests[-TRUSTED:])
    assert trusted_problems(config_of("align")) == []
    for settings, message in (
        (["evaluation.num_prompts=5"], r"1 of the 5 problems .*set evaluation.num_prompts to at m"),
        (["evaluation.num_prompts=0"], r"4 of the 8 .* to at most 4"),
        (["allocation.selection.trusted=3"], "trusted=3 must be a multiple of prompts_per_step=2"),
        (["allocation.selection.candidates=5"], "candidates=5 must be a multiple"),
        (["allocation.selection.candidates=10"], "must not exceed the 9 training problems"),
        (["allocation.selection.trusted=8"], "must leave test problems for the evaluation"),
        (["aggregator=oblr_po"], "oblr_po needs gradient norms"),
    ):
        with pytest.raises(UserError, match=message) as error:
            validate(overrides.apply(CONFIG, settings))
        assert "\n" not in str(error.value)


def test_an_evaluation_of_trusted_problems_is_refused():
    policy_source._check_trusted(CONFIG, CONFIG)
    for number in (0, 7):
        evaluated = overrides.apply(CONFIG, [f"evaluation.num_prompts={number}"])
        with pytest.raises(UserError, match=r"not held out: add --set evaluation\.num_prompts=4"):
            policy_source._check_trusted(CONFIG, evaluated)
    policy_source._check_trusted(config_of("align"), evaluated)


def test_a_text_that_occurs_twice_in_the_test_split_is_refused():
    class Twice(Digits):
        def prompts(self, split):
            problems = super().prompts(split)
            if split == "test":
                problems[-1] = dataclasses.replace(problems[0], index=99)
            return problems

    with pytest.raises(UserError, match="occurs twice in the test split"):
        validate(dataclasses.replace(CONFIG, task=Twice(num_train=9)))
