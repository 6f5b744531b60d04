"""Plug-ins: a user's own aggregator, loss and allocation rule, named by file or module."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import TINY

from dvaojax import aggregators, cli, losses
from dvaojax.config import (
    Config,
    aggregator_knobs,
    config_from_json,
    make_aggregator,
    make_shadows,
    overrides,
    validate,
)
from dvaojax.errors import UserError
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.run.description import config_to_json
from dvaojax.sweep.switch_aggregator import UnweightedMethod, switch_aggregator, switch_state

SOURCE = '''
"""Methods of a user."""

import jax.numpy as jnp
import numpy as np

from dvaojax.aggregators import PerObjective, per_objective, stateful
from dvaojax.losses import clipped_surrogate


def above_the_median(rewards, weights, *, mask=None, factor=1.0, offset: PerObjective = 0.0):
    """The weighted reward above the median of its group.

    $$ A_i = f (R_i - median_j R_j) $$

    Not to be confused with: `dr_grpo`, which subtracts the mean.

    Args:
        rewards: `[..., G, K]`.
        weights: `[K]`.
        mask: ignored.
        factor: multiplies the advantages.
        offset: added to the rewards.
    """
    total = rewards @ weights + jnp.sum(weights * per_objective(offset, weights))
    return factor * (total - jnp.median(total, axis=-1, keepdims=True))


def per_token(rewards, weights, lengths, *, mask=None):
    return rewards @ weights / lengths


def noise(rewards, weights, key, *, mask=None):
    import jax
    return jax.random.normal(key, rewards.shape[:-1])


def counted(weights, *, rate=1):
    """The weighted rewards times the number of the step."""

    def step(rewards, weights, state, *, mask):
        return (state + rate) * rewards @ weights, state + rate

    return stateful(lambda weights: jnp.zeros(()), step, weights=weights)


def wide_clip(logp, logp_old, advantages, *, where, reduce, clip=0.5):
    return clipped_surrogate(
        logp, logp_old, advantages, where=where, reduce=reduce, clip_low=clip, clip_high=clip
    )


def first_problem(statistics, weights, *, budget, floor, cap, share=0.5):
    sizes = np.full(len(statistics.count), floor)
    for i in range(len(sizes)):
        sizes[i] += min(cap - floor, budget - sizes.sum())
    return sizes


number = 3


def without_mask(rewards, weights):
    return rewards @ weights


def three_inputs(rewards, weights, prompts, *, mask=None):
    return rewards @ weights


def unreduced(rewards, weights, *, mask=None):
    return rewards


def integers(rewards, weights, *, mask=None):
    return jnp.zeros(rewards.shape[:-1], jnp.int32)


def nothing(rewards, weights, *, mask=None):
    pass


def failing(rewards, weights, *, mask=None):
    raise RuntimeError("no\\nluck")


def not_an_aggregator(weights):
    return weights


def no_pair(logp, logp_old, advantages, *, where, reduce):
    return jnp.sum(logp)


def too_few(statistics, weights, *, budget, floor, cap):
    return np.full(len(statistics.count), floor)
'''
FAILING_LINE = SOURCE[: SOURCE.index("raise RuntimeError")].count("\n") + 1


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that returns the names of functions in `methods.py`, a file of the user."""
    (tmp_path / "methods.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return lambda function: f"methods.py:{function}"


def changed(*settings):
    return overrides.apply(Config(), settings)


REWARDS = jax.random.normal(jax.random.key(0), (4, 8, 3))


def test_selects_an_aggregator_with_options_of_its_signature(plugin):
    config = changed(
        f"aggregator={plugin('above_the_median')}", "aggregator.options=factor=2,offset.format=5"
    )
    validate(config)
    assert config.objectives == ("accuracy", "brevity", "format")
    assert aggregator_knobs(config) == {"factor": 2.0, "offset": (0.0, 0.0, 5.0)}
    advantages, _ = make_aggregator(config).update(REWARDS, None, (), None)
    total = REWARDS.sum(axis=-1)
    expected = 2 * (total - np.median(total, axis=-1, keepdims=True))
    np.testing.assert_allclose(advantages, expected, atol=1e-5)


def test_aggregators_may_need_lengths_or_a_key_or_a_state(plugin):
    lengths = jnp.arange(1.0, 33.0).reshape(4, 8)
    made = [aggregators.make(plugin(n), jnp.ones(3)) for n in ("per_token", "noise", "counted")]
    per_token, noise, counted = made
    advantages, _ = per_token.update(REWARDS, None, (), None, lengths=lengths)
    np.testing.assert_allclose(advantages, REWARDS.sum(-1) / lengths, rtol=1e-5)
    advantages, _ = noise.update(REWARDS, None, (), jax.random.key(1))
    assert advantages.shape == (4, 8)
    state = counted.init(3)
    for step in (1, 2):
        advantages, state = counted.update(REWARDS, None, state, None)
        np.testing.assert_allclose(advantages, step * REWARDS.sum(-1), rtol=1e-5)
    for name in ("per_token", "noise", "counted"):
        validate(changed(f"aggregator={plugin(name)}"))


def test_module_that_can_be_imported(plugin, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_package.py").write_text(SOURCE)
    name = "users_package:counted"
    try:
        validate(changed(f"aggregator={name}"))
        assert aggregators.find(name) is sys.modules["users_package"].counted
    finally:
        sys.modules.pop("users_package", None)


def test_shadows(plugin, tmp_path):
    name = f"{tmp_path}/methods.py:above_the_median"
    config = changed(f"aggregator.shadows=dvao:ddof=1,{name}:factor=2:offset=1,{name}")
    validate(config)
    assert list(make_shadows(config)) == [
        *("dvao:ddof=1", "methods.py:above_the_median:factor=2:offset=1"),
        "methods.py:above_the_median",
    ]
    with pytest.raises(UserError, match=r"methods\.py:above_the_median is named twice"):
        make_shadows(changed(f"aggregator.shadows={name},{plugin('above_the_median')}"))


def test_sweeps_switch_between_plugins(plugin):
    methods = [
        UnweightedMethod("dvao", {}),
        UnweightedMethod(plugin("above_the_median"), {"factor": 3.0}),
        UnweightedMethod(plugin("counted"), {"rate": 2}),
    ]
    weights = jnp.ones(3)
    update = jax.jit(switch_aggregator(methods).update)
    for method in methods:
        state = switch_state(methods, method, weights)
        advantages, _ = update(REWARDS, None, state, jax.random.key(0))
        alone = aggregators.make(method.name, weights, **method.knobs)
        expected, _ = alone.update(REWARDS, None, alone.init(3), None)
        np.testing.assert_allclose(advantages, expected, atol=1e-5)


def test_loss(plugin):
    config = LossConfig(plugin("wide_clip"), options=("clip=0.3",))
    config.check_options()
    assert losses.reduction_of(config.function) is losses.token_mean
    logp, where = -jnp.arange(1.0, 5.0).reshape(2, 2), jnp.ones((2, 2), bool)
    arguments = (logp, logp - 1, jnp.ones((2, 2)))
    mean, _ = config.function(*arguments, where=where, reduce=losses.token_mean)
    bounds = {"clip_low": 0.3, "clip_high": 0.3}
    expected, _ = losses.clipped_surrogate(*arguments, where=where, **bounds)
    np.testing.assert_allclose(mean.total, expected.total)


def test_allocation_rule(plugin):
    config = changed(f"allocation={plugin('first_problem')}", "allocation.options=share=0.2")
    validate(config)


def test_file_is_run_again_after_a_change(plugin, tmp_path):
    name = plugin("above_the_median")
    assert aggregators.find(name) is aggregators.find(name)
    (tmp_path / "methods.py").write_text(SOURCE.replace("factor=1.0", "factor=10.0"))
    assert aggregators.knobs_of(aggregators.find(name))["factor"] == 10.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("aggregator=method.py:x", "method.py:x: there is no file method.py; did you mean methods"),
        ("aggregator=none/m.py:x", "none/m.py:x: there is no file none/m.py"),
        ("aggregator=methods.py:", "'methods.py:': write file.py:function or package.module:func"),
        (
            "aggregator=methods.py:above_median",
            "methods.py has no function 'above_median'; did you mean 'above_the_median'?",
        ),
        (
            "aggregator=methods.py:number",
            "methods.py:number: number is of type int, not a function",
        ),
        ("aggregator=no.such:x", "there is no module no.such: install it, or name its file, no/su"),
        ("aggregator=json:dvao", "json has no function 'dvao'"),
        (
            "aggregator=methods.py:without_mask",
            "methods.py:without_mask cannot be called as (rewards, weights, mask=...): got an",
        ),
        (
            "aggregator=methods.py:three_inputs",
            "methods.py:three_inputs: TypeError: three_in",
        ),
        (
            "aggregator=methods.py:unreduced",
            "methods.py:unreduced returned float32[32,8,3] for rewards float32[32,8,3], not "
            "advantages float32[32,8]",
        ),
        ("aggregator=methods.py:integers", "methods.py:integers returned int32[32,8]"),
        ("aggregator=methods.py:nothing", "methods.py:nothing returned a NoneType"),
        (
            "aggregator=methods.py:failing",
            f"methods.py:failing, line {FAILING_LINE}: RuntimeError: no luck",
        ),
        ("aggregator=methods.py:not_an_aggregator", "returned a "),
        ("aggregator=broken.py:x", "broken.py:2: ModuleNotFoundError: No module named 'nowhere"),
        ("aggregator=syntax.py:x", "syntax.py:1: "),
        ("aggregator.shadows=methods.py:abov:x=1", "aggregator.shadows: methods.py:abov:x=1: meth"),
        ("aggregator.shadows=methods.py:nothing", "methods.py:nothing returned a NoneType"),
        ("loss=methods.py:above_the_median", "methods.py:above_the_median cannot be called as ("),
        ("loss=methods.py:wide", "methods.py has no function 'wide'; did you mean 'wide_clip'?"),
        ("loss=methods.py:no_pair", "not a pair (Mean, SurrogateInfo) of scalars"),
        (
            "allocation=methods.py:too_few",
            "methods.py:too_few returned [2, 2, 2, 2] for 4 prob",
        ),
        ("allocation=methods.py:counted", "methods.py:counted cannot be called as (statistics, w"),
    ],
)
def test_errors_are_one_line_with_file_and_function(plugin, tmp_path, setting, message):
    (tmp_path / "broken.py").write_text("\nimport nowhere_at_all\n")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    with pytest.raises(UserError) as error:
        validate(changed(setting))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "name", "option", "message"),
    [
        ("aggregator", "above_the_median", "factr=2", "has no knob 'factr'; did you mean 'factor'"),
        ("aggregator", "counted", "rate=0.5", "aggregator.options: 'rate=0.5' is not rate=<int>"),
        ("loss", "wide_clip", "clp=1", "loss.options: methods.py:wide_clip has no knob 'clp'"),
        ("allocation", "first_problem", "share=x", "'share=x' is not share=<float>"),
    ],
)
def test_errors_in_options(plugin, section, name, option, message):
    with pytest.raises(UserError) as error:
        validate(changed(f"{section}={plugin(name)}", f"{section}.options={option}"))
    assert message in str(error.value)


def test_reading_a_recorded_configuration_does_not_run_plugins(plugin, tmp_path):
    (tmp_path / "methods.py").write_text("raise SystemExit('run')")
    config = dataclasses.replace(
        changed(f"aggregator={plugin('a')}", f"aggregator.shadows={plugin('b')}"),
        loss=LossConfig(plugin("c"), options=("x=1",)),
    )
    config = overrides.apply(config, [f"allocation={plugin('d')}", "allocation.options=y=1"])
    recorded = json.loads(json.dumps(config_to_json(config)))
    assert config_from_json(recorded) == config


def test_help_page(plugin, capsys):
    assert cli.main(["methods", plugin("above_the_median")]) == 0
    page = capsys.readouterr().out
    assert "Methods of a user." in page
    assert "A_i = f (R_i - median_j R_j)" in page
    assert "`dr_grpo`, which subtracts the mean." in page
    assert "  factor=1.0  multiplies the advantages." in page
    assert "added to the rewards. One value for all objectives" in page
    assert "aggregator=methods.py:above_the_median aggregator.options=factor=1.0" in page
    for function, use in {
        "wide_clip": "--set loss.name=methods.py:wide_clip loss.options=clip=0.5",
        "first_problem": "--set allocation.name=methods.py:first_problem allocation.options=share",
    }.items():
        assert cli.main(["methods", plugin(function)]) == 0
        assert use in capsys.readouterr().out
    assert cli.main(["methods", plugin("above")]) == 2
    assert "methods.py has no function 'above'; did you mean" in capsys.readouterr().err


@pytest.mark.slow
def test_commands_with_plugins(plugin, tmp_path, capsys):
    """Training uses aggregator, shadow, loss and rule; what reads the run never loads them."""
    settings = [
        f"aggregator={plugin('above_the_median')}",
        f"aggregator.shadows={plugin('counted')}:rate=2,gdpo",
        f"loss={plugin('wide_clip')}",
        f"allocation={plugin('first_problem')}",
        "allocation.floor=1",
        "rollout_stages=1",
    ]
    assert cli.main(["train", "--name", "own", "--set", *TINY, *settings]) == 0
    metrics = (tmp_path / "runs/own/metrics.jsonl").read_text()
    rows = [json.loads(line) for line in metrics.splitlines()]
    assert all(np.isfinite(row["shadow/methods.py:counted:rate=2/cosine"]) for row in rows)
    (tmp_path / "methods.py").write_text("raise SystemExit('run')")
    for command in (
        ["evaluate", "runs/own"],
        ["plot", "runs/own"],
        ["report", "runs/own"],
        ["export", "runs/own", "exported"],
    ):
        assert cli.main(command) == 0, capsys.readouterr().err
