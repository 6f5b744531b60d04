"""Gates of a task are the default of an aggregator that uses them."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import aggregators
from dvaojax.config import AggregatorConfig, Config
from dvaojax.config.validation import aggregator_knobs, make_aggregator, make_shadows, validate
from dvaojax.errors import UserError
from dvaojax.tasks.arithmetic import Arithmetic


@dataclasses.dataclass(frozen=True)
class Gated(Arithmetic):
    """The built-in task, whose format must be right."""

    gates: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"format": 1.0})


def config(*options, name="dro", task=None, shadows=()):
    aggregator = AggregatorConfig(name, options=options, shadows=shadows)
    return Config(task=task or Gated(), aggregator=aggregator)


def gates_of(task, limit):
    return tuple(limit if name == "format" else -np.inf for name in task.objectives)


def test_gates_of_the_task_reach_the_method_and_its_shadow():
    gated = config(shadows=("dro:min_accepted=2",))
    validate(gated)
    assert aggregator_knobs(gated) == {"gates": gates_of(gated.task, 1.0)}
    rewards = np.random.default_rng(0).random((32, 8, 3)).round().astype(np.float32)
    weights = aggregators.named_weights(gated.weights, gated.objectives)
    expected = aggregators.dro(rewards, weights, gates=gates_of(gated.task, 1.0))
    advantages, _ = make_aggregator(gated).update(jnp.asarray(rewards), None, (), None)
    np.testing.assert_allclose(advantages, expected, atol=1e-6)
    assert np.abs(expected - aggregators.grpo(rewards, weights)).max() > 0.1
    (shadow,) = make_shadows(gated).values()
    other, _ = shadow.update(jnp.asarray(rewards), None, (), None)
    again = aggregators.dro(rewards, weights, gates=gates_of(gated.task, 1.0), min_accepted=2)
    np.testing.assert_allclose(other, again, atol=1e-6)


def test_options_set_gates_of_any_task_and_replace_those_of_the_task():
    task = Arithmetic()
    knobs = aggregator_knobs(config("gates.format=0.5", task=task))
    assert knobs == {"gates": gates_of(task, 0.5)}
    assert aggregator_knobs(config("gates.format=0.5")) == {"gates": gates_of(task, 0.5)}
    assert aggregator_knobs(config(task=task)) == {}
    assert aggregator_knobs(config(name="grpo")) == {}


def test_wrong_gates_are_named():
    with pytest.raises(UserError, match=r"gates: unknown objective 'fromat'.*'format'"):
        aggregator_knobs(config(task=Gated(gates={"fromat": 1.0})))
    with pytest.raises(UserError, match="leave no objective that ranks"):
        validate(config("gates=0.5"))
