"""Aggregators and losses in other training loops, which only use these functions of the package.

One policy gradient step of a small policy, written three times: with a Flax Linen module, with a
callable pytree (as in Equinox), and inside `shard_map`, where every device has its own groups. The
gradients are compared with each other and with a computation in NumPy.
"""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import updated
from flax import linen
from jax import Array
from jax.sharding import AxisType, PartitionSpec

from dvaojax.aggregators import METHODS, dvao, gdpo, make, reinforce_plus_plus
from dvaojax.losses import clipped_surrogate

B, G, K, T, V, D = 8, 4, 3, 6, 7, 5
WEIGHTS = np.array([1.0, 0.5, 0.25], np.float32)
ROOT = Path(__file__).parents[1]


def draw_batch():
    """A batch as from a sampler and reward functions; devices split it by groups."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, T + 1, (B, G))
    where = np.arange(T) < lengths[..., None]
    # Prompts differ in difficulty, so that the halves of the batch have different statistics.
    rewards = generator.random((B, G, K)) * np.linspace(0.2, 2, B)[:, None, None]
    return {
        "before": generator.integers(0, V, (B, G, T)),
        "tokens": generator.integers(0, V, (B, G, T)),
        "where": where,
        "lengths": lengths,
        "rewards": rewards.astype(np.float32),
        "shift": generator.uniform(-0.1, 0.1, (B, G, T)).astype(np.float32),
    }


def draw_parameters():
    generator = np.random.default_rng(1)
    return {
        "embedding": generator.normal(size=(V, D)).astype(np.float32),
        "head": generator.normal(size=(D, V)).astype(np.float32),
    }


class LinenPolicy(linen.Module):
    """From a token to the logits of the next one, in Flax Linen."""

    @linen.compact
    def __call__(self, tokens):
        hidden = jnp.tanh(linen.Embed(V, D, name="embedding")(tokens))
        return linen.Dense(V, use_bias=False, name="head")(hidden)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PytreePolicy:
    """The policy as a callable pytree."""

    embedding: Array
    head: Array

    def __call__(self, tokens):
        return jnp.tanh(self.embedding[tokens]) @ self.head


def token_logprobs(logits, tokens):
    return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)[..., 0]


def surrogate(logits, batch, advantages):
    """The loss as sum and count."""
    logp = token_logprobs(logits, batch["tokens"])
    logp_old = jax.lax.stop_gradient(logp) + batch["shift"]
    return clipped_surrogate(logp, logp_old, advantages, where=batch["where"])[0]


AGGREGATORS = {
    "dvao": lambda rewards, lengths: dvao(rewards, WEIGHTS),
    "gdpo": lambda rewards, lengths: gdpo(rewards, WEIGHTS),
    "reinforce_plus_plus": lambda rewards, lengths: reinforce_plus_plus(rewards, WEIGHTS, lengths),
}


@jax.jit(static_argnames="aggregate")
def linen_gradients(batch, aggregate):
    drawn = draw_parameters()
    parameters = {
        "embedding": {"embedding": drawn["embedding"]},
        "head": {"kernel": drawn["head"]},
    }
    advantages = aggregate(batch["rewards"], batch["lengths"])

    def loss(parameters):
        logits = LinenPolicy().apply({"params": parameters}, batch["before"])
        return surrogate(logits, batch, advantages).value

    gradients = jax.grad(loss)(jax.tree.map(jnp.asarray, parameters))
    return {
        "embedding": gradients["embedding"]["embedding"],
        "head": gradients["head"]["kernel"],
    }


@jax.jit(static_argnames="aggregate")
def pytree_gradients(batch, aggregate):
    policy = PytreePolicy(**jax.tree.map(jnp.asarray, draw_parameters()))
    advantages = aggregate(batch["rewards"], batch["lengths"])

    def loss(policy):
        return surrogate(policy(batch["before"]), batch, advantages).value

    return vars(jax.grad(loss)(policy))


def on_four_devices(function, in_specs, out_specs):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


def sharded_gradients(batch, aggregate):
    everywhere, by_groups = PartitionSpec(), PartitionSpec("data")

    def step(policy, batch):
        # Rewards are small: every device gathers all of them and selects its own advantages.
        rewards, lengths = jax.lax.all_gather((batch["rewards"], batch["lengths"]), "data")
        advantages = aggregate(rewards, lengths)[jax.lax.axis_index("data")]

        def loss(policy):
            mean = surrogate(policy(batch["before"]), batch, advantages)
            total, count = jax.lax.psum((mean.total, mean.count), "data")
            return total / count

        return vars(jax.grad(loss)(policy))

    policy = PytreePolicy(**jax.tree.map(jnp.asarray, draw_parameters()))
    return on_four_devices(step, (everywhere, by_groups), everywhere)(policy, batch)


def numpy_gradients(batch, aggregate):
    """Backpropagation through logits = tanh(E[before]) W and -A exp(logp - logp_old), in NumPy."""
    parameters = {name: array.astype(np.float64) for name, array in draw_parameters().items()}
    hidden = np.tanh(parameters["embedding"][batch["before"]])
    logits = hidden @ parameters["head"]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    advantages = jax.jit(aggregate)(batch["rewards"], batch["lengths"])
    advantages = np.asarray(advantages, np.float64)
    slope = -advantages[..., None] * np.exp(-batch["shift"])  # no ratio is clipped
    slope = np.where(batch["where"], slope, 0) / batch["where"].sum()
    to_logits = slope[..., None] * (np.eye(V)[batch["tokens"]] - probabilities)
    to_hidden = to_logits @ parameters["head"].T * (1 - hidden**2)
    embedding = np.zeros((V, D))
    np.add.at(embedding, batch["before"], to_hidden)
    return {"embedding": embedding, "head": np.einsum("bgtd,bgtv->dv", hidden, to_logits)}


@pytest.mark.parametrize(
    "name",
    [
        "gdpo",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("dvao", "reinforce_plus_plus")),
    ],
)
def test_all_loops_have_the_same_gradients(name):
    batch, aggregate = draw_batch(), AGGREGATORS[name]
    expected = numpy_gradients(batch, aggregate)
    assert min(np.abs(gradient).max() for gradient in expected.values()) > 1e-2
    for gradients in (linen_gradients, pytree_gradients, sharded_gradients):
        result = gradients(batch, aggregate)
        assert result.keys() == expected.keys()
        for key, gradient in expected.items():
            np.testing.assert_allclose(result[key], gradient, atol=2e-6)


def test_batch_statistics_of_one_device_are_wrong_without_the_gather():
    rewards = draw_batch()["rewards"]
    by_groups = PartitionSpec("data")
    ungathered = on_four_devices(lambda r: gdpo(r, WEIGHTS), by_groups, by_groups)(rewards)
    jitted = jax.jit(gdpo)
    expected = np.concatenate([jitted(part, WEIGHTS) for part in np.split(rewards, 4)])
    np.testing.assert_allclose(ungathered, expected, atol=1e-6)
    assert np.abs(ungathered - jitted(rewards, WEIGHTS)).max() > 0.1


def every_method(rewards, mask, lengths):
    """Name -> (advantages, next state); leading axes are the batch."""
    results = {}
    for name in METHODS:
        aggregator = make(name, WEIGHTS)
        state = aggregator.init(K)
        key = jax.random.key(0)
        # Two scores whose noise differs between groups.
        noise = 0.1 * rewards
        results[name] = updated(aggregator, rewards, mask, state, key, lengths, noise=noise)
    return results


@pytest.mark.nightly
def test_every_method_gives_the_same_result_in_shard_map_after_a_gather():
    batch = draw_batch()
    mask = np.random.default_rng(2).random((B, G, K)) < 0.9
    arguments = (batch["rewards"], mask, batch["lengths"])
    by_groups = PartitionSpec("data")

    def on_device(*local):
        results = every_method(*jax.lax.all_gather(local, "data", to="invarying"))
        device = jax.lax.axis_index("data")
        return {name: (advantages[device], state) for name, (advantages, state) in results.items()}

    specs = {name: (by_groups, PartitionSpec()) for name in METHODS}
    whole = jax.device_get(jax.jit(every_method)(*arguments))
    parts = jax.device_get(on_four_devices(on_device, (by_groups,) * 3, specs)(*arguments))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), parts, whole)

    # Methods with batch statistics give other advantages on half of the batch; see the README.
    half = jax.device_get(jax.jit(every_method)(*(array[: B // 2] for array in arguments)))
    group_wise = {
        name
        for name, (advantages, state) in half.items()
        if np.allclose(advantages, whole[name][0][: B // 2], atol=1e-5)
        and not jax.tree.leaves(state)
    }
    assert documented_group_wise_methods() == group_wise


def documented_group_wise_methods():
    """The methods listed after the example with `shard_map`, which use one group at a time."""
    for path in (ROOT / "README.md", *ROOT.glob("*/**/README.md")):
        text = path.read_text()
        for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if "jax.shard_map" in block.group(1):
                names = re.search(r"one group at a time: (.*?)\.", text[block.end() :], re.DOTALL)
                assert names, f"{path} does not list the methods that use one group at a time"
                return set(re.findall(r"`(\w+)`", names.group(1)))
    raise AssertionError("no README.md has an example with jax.shard_map")
