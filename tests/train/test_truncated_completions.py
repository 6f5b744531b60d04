"""Completions that the token limit ended are left out of learning as if they were not sampled."""

import digits_run
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_collect import make_collected

from dvaojax.aggregators import make
from dvaojax.learning import policy_loss
from dvaojax.learning.gradients import init_learner
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch, make_policy_loss
from dvaojax.learning.train_step import LearningConfig, TrainState, make_train_step

WEIGHTS = jnp.array([1.0, 0.5, 2.0])
EMBEDDING = np.random.default_rng(1).normal(size=(16, 6))


@pytest.fixture(autouse=True)
def _bigrams(monkeypatch):
    monkeypatch.setattr(policy_loss, "policy_logprobs", digits_run.bigram_logprobs)


@pytest.fixture(scope="module")
def collected():
    return make_collected(mask_truncated=True), make_collected(mask_truncated=False)


def test_only_the_masks_of_truncated_completions_change(collected):
    masked, whole = (jax.device_get(each.experience) for each in collected)
    ended = np.ones((2, 4), bool)
    ended[0, 3] = False  # the only one without a stop token
    np.testing.assert_array_equal(masked.completion_mask, whole.completion_mask & ended[..., None])
    np.testing.assert_array_equal(masked.reward_mask, whole.reward_mask & ended[..., None])
    assert not masked.completion_mask[0, 3].any()
    for name in ("prompt_tokens", "completion_tokens", "logprobs", "rewards", "packed"):
        np.testing.assert_array_equal(getattr(masked, name), getattr(whole, name))


def test_logged_means_are_over_all_completions(collected):
    masked, whole = collected
    scores, lengths = whole.scores, whole.lengths.completions
    for k, name in enumerate(("digits", "largest", "brevity")):
        values = scores.rewards[..., k][scores.mask[..., k]]
        assert masked.measures[f"reward/{name}"] == pytest.approx(values.mean(dtype=np.float64))
        assert f"reward/{name}" not in whole.measures
    assert masked.measures["completion_length"] == pytest.approx(lengths.mean())
    assert masked.measures["truncated"] == whole.measures["truncated"] == 1 / 8


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def loop_over_ended(experience, ended, reduction, limit):
    """The loss of GRPO on the completions that ended, in float64, one token after the other."""
    logprobs = log_softmax(EMBEDDING @ EMBEDDING.T)
    total = count = 0.0
    for b in range(2):
        members = [g for g in range(4) if ended[b, g]]
        vectors = np.asarray(experience.rewards[b], np.float64)[members]
        sums = vectors @ np.asarray(WEIGHTS, np.float64)
        for g, value in zip(members, sums, strict=True):
            advantage, previous, terms = (value - sums.mean()) / (sums.std() + 1e-6), 0, []
            for t in np.flatnonzero(experience.completion_mask[b, g]):
                token = experience.completion_tokens[b, g, t]
                ratio = np.exp(logprobs[previous, token] - float(experience.logprobs[b, g, t]))
                clipped = min(max(ratio, 0.8), 1.2)
                terms.append(-min(ratio * advantage, clipped * advantage))
                previous = token
            match reduction:
                case "token_mean":
                    total, count = total + sum(terms), count + len(terms)
                case "sequence_mean":
                    total, count = total + np.mean(terms), count + 1
                case "constant_length":
                    total, count = total + sum(terms) / limit, count + 1
    return total, count


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "constant_length"])
def test_loss_and_its_denominator_equal_a_loop_over_ended_completions(collected, reduction):
    experience = collected[0].experience
    ended = np.asarray(experience.completion_mask).any(axis=-1)
    assert ended.sum() == 7
    # Every objective applies to all of them.
    experience = experience._replace(
        reward_mask=jnp.broadcast_to(ended[..., None], experience.rewards.shape)
    )
    update = make("reward_combination", WEIGHTS).update
    advantages, _ = update(experience.rewards, experience.reward_mask, (), None)
    loss = make_policy_loss(
        LossConfig("clipped_surrogate", ("clip_low=0.2", "clip_high=0.2"), reduction),
        model=digits_run.MODEL,
        temperature=1.0,
        max_new_tokens=16,
    )
    params = {"embedding": jnp.asarray(EMBEDDING, jnp.float32)}
    batch = PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs))
    _, metrics = jax.jit(loss)(params, batch)
    total, count = loop_over_ended(jax.device_get(experience), ended, reduction, 16)
    assert abs(total) > 0.01
    np.testing.assert_allclose(metrics["loss"].total, total, rtol=2e-4)
    assert float(metrics["loss"].count) == count


@pytest.mark.parametrize(
    "method",
    ["dvao", *(pytest.param(m, marks=pytest.mark.slow) for m in ("gdpo", "opo", "lagrangian"))],
)
def test_a_truncated_completion_has_no_effect_on_the_update(collected, method):
    """Its rewards and tokens are replaced by others, without effect on any number."""
    experience = collected[0].experience._replace(packed=None)
    hidden = ~np.asarray(experience.completion_mask).any(axis=-1)
    other = experience._replace(
        rewards=jnp.where(hidden[..., None], 1e6, experience.rewards),
        completion_tokens=jnp.where(hidden[..., None], 3, experience.completion_tokens),
        logprobs=jnp.where(hidden[..., None], -50.0, experience.logprobs),
    )
    aggregator, optimizer = make(method, WEIGHTS), optax.sgd(0.1)
    step = make_train_step(
        LearningConfig(),
        loss=make_policy_loss(
            LossConfig("dapo"), model=digits_run.MODEL, temperature=1.0, max_new_tokens=16
        ),
        optimizer=optimizer,
        aggregator=aggregator,
    )
    params = {"embedding": jnp.asarray(EMBEDDING, jnp.float32)}

    def updated(experience):
        key = jax.random.key(0)
        state = TrainState(
            jnp.zeros((), jnp.int32), init_learner(params, optimizer), aggregator.init(3), key
        )
        after, metrics, advantages = jax.jit(step)(state, experience, None)
        return after.learner.params["embedding"], after.aggregator_state, metrics, advantages

    first, second = updated(experience), updated(other)
    assert np.abs(first[0] - params["embedding"]).max() > 1e-4
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert np.all(np.asarray(first[3])[hidden] == 0)


def test_step_in_which_nothing_ended_changes_nothing(collected):
    experience = collected[0].experience._replace(packed=None)
    nothing = experience._replace(
        completion_mask=jnp.zeros_like(experience.completion_mask),
        reward_mask=jnp.zeros_like(experience.reward_mask),
    )
    loss = make_policy_loss(
        LossConfig("dapo"), model=digits_run.MODEL, temperature=1.0, max_new_tokens=16
    )
    optimizer = optax.sgd(0.1)
    step = make_train_step(
        LearningConfig(), loss=loss, optimizer=optimizer, aggregator=make("dvao", WEIGHTS)
    )
    params = {"embedding": jnp.asarray(EMBEDDING, jnp.float32)}
    state = TrainState(
        jnp.zeros((), jnp.int32), init_learner(params, optimizer), (), jax.random.key(0)
    )
    after, metrics, _ = jax.jit(step)(state, nothing, None)
    np.testing.assert_array_equal(after.learner.params["embedding"], params["embedding"])
    assert float(metrics["skipped_updates"].total) == 0
