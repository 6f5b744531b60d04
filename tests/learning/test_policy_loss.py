"""The policy's loss against plain computations: shared prompts, temperature, penalty."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import (
    MAX_NEW_TOKENS,
    descent,
    gradient_by_loop,
    new_state,
    ragged_experience,
    step_of,
    table_logprobs,
    table_loss,
    table_params,
    table_step,
)
from slowness import slow_but

from dvaojax import losses, models
from dvaojax.learning.gradients import accumulate, gradient_of
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch, make_policy_loss
from dvaojax.learning.train_step import LearningConfig
from dvaojax.models import ModelConfig

MODEL = ModelConfig(
    vocab_size=6, width=8, num_layers=2, num_heads=2, num_kv_heads=1, head_width=4, ff_width=16
)


def repeated_logprobs(params, experience, *, temperature):
    """The same log-probabilities with nothing shared: every prompt is written out for each of its
    completions, and the sequences run through plain causal attention one by one."""
    experience = jax.tree.map(np.asarray, experience)
    batch, group, length = experience.completion_tokens.shape
    width = experience.prompt_tokens.shape[1] + length
    sequences = np.zeros((batch * group, width), np.int32)
    columns = np.zeros((batch * group, length), np.int32)
    for row, (b, g) in enumerate(np.ndindex(batch, group)):
        prompt = experience.prompt_tokens[b, : experience.prompt_lengths[b]]
        whole = [*prompt, *experience.completion_tokens[b, g]]
        sequences[row, : len(whole)] = whole
        columns[row] = len(prompt) - 1 + np.arange(length)
    model = models.apply(MODEL, params)
    hidden, _ = model.prefill(jnp.asarray(sequences))
    logits = jnp.take_along_axis(model.logits(hidden), jnp.asarray(columns)[..., None], axis=1)
    logprobs = jax.nn.log_softmax(logits / temperature)
    tokens = jnp.asarray(experience.completion_tokens).reshape(batch * group, length, 1)
    chosen = jnp.take_along_axis(logprobs, tokens, axis=-1)
    return chosen.reshape(batch, group, length)


def plain_loss(params, experience, advantages, *, temperature):
    """The clipped surrogate's mean over tokens, written down once more."""
    where = experience.completion_mask
    logp = repeated_logprobs(params, experience, temperature=temperature)
    ratio = jnp.exp(jnp.where(where, logp - experience.logprobs, 0.0))
    advantages = jnp.where(where, advantages[..., None], 0.0)
    terms = jnp.minimum(ratio * advantages, jnp.clip(ratio, 0.8, 1.2) * advantages)
    return -jnp.sum(terms) / jnp.sum(where, dtype=jnp.float32)


def test_with_shared_prompts_value_and_gradient_are_those_of_repeated_prompts():
    temperature = 0.7
    experience = ragged_experience(prompts=4, group=3, length=5)
    params = models.init(MODEL, jax.random.key(1))
    old = jax.jit(lambda p: repeated_logprobs(p, experience, temperature=temperature))(params)
    noise = 0.2 * jax.random.normal(jax.random.key(2), old.shape)
    where = experience.completion_mask
    experience = experience._replace(logprobs=jnp.where(where, old + noise, jnp.nan))
    advantages = jax.random.normal(jax.random.key(3), old.shape[:2])
    expected = jax.jit(
        jax.value_and_grad(lambda p: plain_loss(p, experience, advantages, temperature=temperature))
    )(params)

    loss = make_policy_loss(
        LossConfig(), model=MODEL, temperature=temperature, max_new_tokens=MAX_NEW_TOKENS
    )
    batch = PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs))
    rows = jnp.arange(4).reshape(2, 2)
    gradient, metrics = jax.jit(lambda p: accumulate(gradient_of(loss), p, batch, rows))(params)
    assert 0 < metrics["clip_fraction"].value < 1
    np.testing.assert_allclose(metrics["loss"].value, expected[0], rtol=1e-5)
    largest = max(np.abs(g).max() for g in jax.tree.leaves(expected[1]))
    assert largest > 0.01
    chex.assert_trees_all_close(gradient, expected[1], rtol=1e-4, atol=1e-5 * largest)


def test_how_many_logits_are_held_at_once_changes_nothing():
    experience, params = ragged_experience(), models.init(MODEL, jax.random.key(1))
    found = []
    for model in (MODEL, dataclasses.replace(MODEL, logits_chunk=16)):  # two tokens a group
        measure = jax.jit(partial(policy_logprobs, model=model, temperature=0.7))
        of_a_chunk = "tensor<16x6xf32>" in measure.lower(params, experience).as_text()
        assert of_a_chunk == (model.logits_chunk == 16)
        found.append(measure(params, experience))
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)


def test_an_unchanged_policy_has_ratio_one_and_still_a_gradient():
    """Trap 26: at ratio 1 the value says nothing, the gradient is the policy gradient."""
    experience = ragged_experience()
    sampled = table_logprobs(table_params(), experience, temperature=0.6)[0]
    step = table_step(temperature=0.6)
    gradient, metrics, _ = descent(step, experience._replace(logprobs=sampled))
    np.testing.assert_allclose(metrics["ratio"].value, 1.0, atol=1e-6)
    assert metrics["clip_fraction"].value == 0.0
    assert np.abs(gradient).max() > 0.01


def test_the_trainer_divides_by_the_samplers_temperature():
    experience = ragged_experience()
    sampled = table_logprobs(table_params(), experience, temperature=1.3)[0]
    step = table_step(temperature=1.0)
    _, metrics, _ = descent(step, experience._replace(logprobs=sampled))
    assert abs(metrics["ratio"].value - 1.0) > 0.01


@pytest.mark.parametrize("reduction", slow_but(["token_mean"], sorted(losses.REDUCTIONS)))
def test_padding_behind_the_longest_completion_changes_nothing(reduction):
    """A length bucket may be wider; Dr.GRPO's constant is the sampler's limit, not the bucket."""
    experience = ragged_experience(length=7)
    padding = ((0, 0), (0, 0), (0, MAX_NEW_TOKENS - 7))
    wider = experience._replace(
        completion_tokens=jnp.pad(experience.completion_tokens, padding, constant_values=3),
        completion_mask=jnp.pad(experience.completion_mask, padding),
        logprobs=jnp.pad(experience.logprobs, padding, constant_values=jnp.inf),
    )
    step = table_step(LossConfig(reduction=reduction))
    narrow, wide = descent(step, experience), descent(step, wider)
    chex.assert_trees_all_close(narrow, wide, rtol=1e-5, atol=1e-6)


def kl_step(estimator, weight=0.5):
    return table_step(LossConfig(kl_weight=weight, kl_estimator=estimator))


@pytest.mark.parametrize("estimator", sorted(losses.KL_ESTIMATORS))
def test_the_penalty_towards_the_policy_itself_is_zero(estimator):
    experience = ragged_experience()
    gradient, metrics, _ = descent(kl_step(estimator), experience, reference=table_params())
    assert metrics["kl"].value == 0.0
    if estimator == "k1":  # whose gradient is not zero on any one sample, only in the mean
        return
    without, _, _ = descent(table_step(), experience)
    np.testing.assert_allclose(gradient, without, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("estimator", sorted(losses.KL_ESTIMATORS))
def test_the_penalty_towards_a_reference_by_direct_computation(estimator):
    experience, reference, weight = ragged_experience(), table_params(seed=9), 0.5
    step = kl_step(estimator, weight)
    gradient, metrics, _ = descent(step, experience, reference=reference)
    where = np.asarray(experience.completion_mask)
    policy = np.asarray(table_logprobs(table_params(), experience)[0], np.float64)[where]
    other = np.asarray(table_logprobs(reference, experience)[0], np.float64)[where]
    d = policy - other
    expected = {"k1": d, "k2": d**2 / 2, "k3": np.exp(-d) + d - 1}[estimator].mean()
    assert abs(expected) > 0.1
    np.testing.assert_allclose(metrics["kl"].value, expected, rtol=1e-4)

    without, plain, _ = descent(table_step(), experience)
    together = plain["loss"].value + weight * expected
    np.testing.assert_allclose(metrics["loss"].value, together, rtol=1e-4)

    def penalty(table):
        logp = table_logprobs({"table": table}, experience)[0]
        d = jnp.where(
            experience.completion_mask, logp - table_logprobs(reference, experience)[0], 0
        )
        value = {"k1": d, "k2": d**2 / 2, "k3": jnp.exp(-d) + d - 1}[estimator]
        return weight * jnp.sum(value) / float(where.sum())

    added = jax.grad(penalty)(table_params()["table"])
    np.testing.assert_allclose(gradient, without + added, rtol=1e-4, atol=1e-6)


def test_no_gradient_reaches_the_reference_and_a_step_leaves_it_as_it_was():
    experience, reference = ragged_experience(), table_params(seed=9)
    step = kl_step("k3")

    def loss_of(reference):
        return step(new_state(optax.sgd(1.0)), experience, reference)[1]["loss"].total

    chex.assert_trees_all_equal(
        jax.grad(loss_of)(reference), jax.tree.map(jnp.zeros_like, reference)
    )
    kept = jax.tree.map(np.array, reference)
    step(new_state(optax.sgd(1.0)), experience, reference)
    chex.assert_trees_all_equal(reference, kept)


def test_the_reference_is_looked_at_once_per_step_and_no_more_than_a_micro_batch_at_a_time():
    shapes = []

    def reference_logprobs(params, experience):
        shapes.append(experience.completion_tokens.shape)
        return table_logprobs(params, experience)[0]

    loss = table_loss(LossConfig(kl_weight=0.1))
    learning = LearningConfig(epochs=3, mini_batches=2, micro_batches=2)
    step = step_of(loss, learning=learning, reference_logprobs=reference_logprobs)
    step(new_state(optax.sgd(1.0)), ragged_experience(), table_params(seed=9))
    assert set(shapes) == {(2, 4, 7)}


def test_gradients_do_not_depend_on_micro_batches_with_a_penalty_either():
    results = []
    for cut in (1, 4):
        config = LossConfig(kl_weight=0.5, reduction="sequence_mean")
        step = table_step(config, learning=LearningConfig(micro_batches=cut))
        results.append(descent(step, ragged_experience(), reference=table_params(seed=9)))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_clip_ranges_and_dual_clip_reach_the_loss():
    """Every knob of the loss moves the gradient of a batch whose ratios lie on both sides."""
    experience = ragged_experience()
    experience = experience._replace(logprobs=experience.logprobs - 0.4)
    usual, _, _ = descent(table_step(LossConfig()), experience)
    for option in ("clip_low=0.05", "clip_high=0.6", "dual_clip=1.3"):
        moved, _, _ = descent(table_step(LossConfig(options=(option,))), experience)
        assert np.abs(moved - usual).max() > 1e-3, option


def gradients_of_every_loss(batch):
    """Name -> (gradient, metrics) of the losses by name, in one program."""

    def of(name):
        loss = table_loss(LossConfig(name=name, reduction="token_mean"))
        return accumulate(gradient_of(loss), table_params(), batch, jnp.arange(8).reshape(2, 4))

    return jax.jit(lambda: {name: of(name) for name in losses.BY_NAME})()


def test_every_loss_is_chosen_by_name_and_is_its_own_off_the_policy():
    experience = ragged_experience()
    advantages = jnp.asarray(np.random.default_rng(3).normal(size=(8, 4)), jnp.float32) * 2
    batch = PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs))
    found = gradients_of_every_loss(batch)
    for name, (gradient, metrics) in found.items():
        assert np.all(np.isfinite(gradient["table"])), name
        assert np.isfinite(metrics["loss"].value), name
        for other in found:
            # GSPO's forms are one where a sequence has one advantage.
            if other != name and {name, other} != {"gspo", "gspo_token"}:
                assert np.abs(gradient["table"] - found[other][0]["table"]).max() > 1e-4, other


def test_every_loss_but_lco_descends_the_policy_gradient_of_an_unchanged_policy():
    experience = ragged_experience()
    sampled = table_logprobs(table_params(), experience)[0]
    experience = experience._replace(logprobs=sampled)
    advantages = jnp.asarray(np.random.default_rng(3).normal(size=(8, 4)), jnp.float32)
    batch = PolicyBatch(experience, advantages, jnp.zeros_like(sampled))
    found = gradients_of_every_loss(batch)
    expected = gradient_by_loop(experience, advantages, reduction="token_mean")
    held = found.pop("clip_cov")[1]["clip_fraction"]  # tokens without a gradient
    assert 0 < held.total <= 8
    for name, (gradient, metrics) in found.items():
        np.testing.assert_allclose(metrics["ratio"].value, 1.0, atol=1e-5)
        # KL-Cov's penalty has a slope of 1 wherever rounding has moved the ratio.
        slack = 1.1 * metrics["clip_fraction"].value if name == "kl_cov" else 0.0
        if name.startswith("lco"):  # uphill all the same
            assert np.sum(gradient["table"] * expected) > 0, name
        else:
            atol = 1e-5 + slack
            np.testing.assert_allclose(gradient["table"], expected, rtol=1e-3, atol=atol)


def test_the_importance_of_what_another_policy_sampled_weighs_every_token():
    """On the first update the ratio is 1, and what is left is the truncated weight."""
    cap, experience = 1.2, ragged_experience()
    where = np.asarray(experience.completion_mask)
    config = LossConfig(importance_cap=cap)
    recomputed = {"recomputed_logprobs": lambda params, e: table_logprobs(params, e)[0]}
    learning = LearningConfig(micro_batches=2)
    step = step_of(table_loss(config), learning=learning, **recomputed)
    gradient, metrics, advantages = descent(step, experience)
    seen = np.asarray(table_logprobs(table_params(), experience)[0], np.float64)
    weights = np.minimum(np.exp(seen - np.asarray(experience.logprobs)), cap)
    np.testing.assert_allclose(metrics["ratio"].value, 1.0, atol=1e-6)
    np.testing.assert_allclose(metrics["importance_weight"].value, weights[where].mean(), rtol=1e-5)
    truncated = (weights[where] == cap).mean()
    assert 0 < truncated < 1
    np.testing.assert_allclose(metrics["importance_truncated"].value, truncated, rtol=1e-5)

    # Sampled by a policy that finds every token less likely by its weight, without any clip.
    as_if = np.where(where, seen - np.log(weights), 0)
    expected = gradient_by_loop(
        experience._replace(logprobs=as_if), advantages, reduction="token_mean", clip=np.inf
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_the_policy_is_looked_at_once_per_step_and_before_its_first_update():
    seen = []

    def recomputed_logprobs(params, experience):
        seen.append(experience.completion_tokens.shape)
        return table_logprobs(params, experience)[0]

    config, learning = LossConfig(importance_cap=2.0), LearningConfig(epochs=2, micro_batches=4)
    parts = {"recomputed_logprobs": recomputed_logprobs}
    step = step_of(table_loss(config), learning=learning, **parts)
    _, metrics, _ = descent(step, ragged_experience())
    assert set(seen) == {(2, 4, 7)}
    # The second pass has moved away from where the first began; the weights have not.
    assert metrics["approximate_kl"].value > 1e-4
    once = step_of(table_loss(config), learning=LearningConfig(micro_batches=4), **parts)
    _, of_first, _ = descent(once, ragged_experience())
    weights = [m["importance_weight"].value for m in (metrics, of_first)]
    np.testing.assert_allclose(*weights, rtol=1e-6)


def test_entropy_is_that_of_the_sampled_distribution():
    experience = ragged_experience()
    _, metrics, _ = descent(table_step(), experience)
    table = np.asarray(table_params()["table"], np.float64)
    probabilities = np.exp(table) / np.exp(table).sum(-1, keepdims=True)
    of_row = -(probabilities * np.log(probabilities)).sum(-1)
    total = 0.0
    for b, g, t in np.argwhere(np.asarray(experience.completion_mask)):
        prompt_end = experience.prompt_tokens[b, experience.prompt_lengths[b] - 1]
        total += of_row[int(experience.completion_tokens[b, g, t - 1] if t else prompt_end)]
    np.testing.assert_allclose(metrics["entropy"].total, total, rtol=1e-5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", "gpso"),
        ("reduction", "token_means"),
        ("importance_cap", 0.5),
        ("importance_cap", -1.0),
        ("importance_cap", float("inf")),
        ("importance_cap", float("nan")),
        ("kl_weight", -0.1),
        ("kl_weight", float("inf")),
        ("kl_estimator", "k4"),
    ],
)
def test_a_loss_that_cannot_be_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=rf"loss\.{setting}={value!r}") as error:
        LossConfig(**{setting: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("clipped_surrogate", "clip_low=1.1", "must contain 1 .*clip_low=1.1"),
        ("clipped_surrogate", "clip_high=-0.1", "must contain 1 .*clip_high=-0.1"),
        ("clipped_surrogate", "clip_high=nan", "must contain 1 .*clip_high=nan"),
        ("clipped_surrogate", "dual_clip=1.0", "must contain 1 .*dual_clip=1.0"),
        ("clipped_surrogate", "clip_lo=0.1", "has no knob 'clip_lo'; did you mean 'clip_low'"),
        ("dapo", "dual_clip=3.0", "dapo has no knob 'dual_clip'"),
        ("gspo", "clip_low=a", "'clip_low=a' is not clip_low=<float>"),
        ("sapo", "tau_negative", "'tau_negative' is not tau_negative=<float>"),
    ],
)
def test_options_that_a_loss_does_not_have_or_cannot_take_are_refused(name, option, message):
    with pytest.raises(ValueError, match=rf"^loss\.options, of {name}: .*{message}") as error:
        LossConfig(name=name, options=(option,)).check_options()
    assert "\n" not in str(error.value)


def test_logprobs_have_the_shape_of_the_tokens():
    experience = ragged_experience(prompts=2, group=3, length=5)
    params = jax.eval_shape(lambda: models.init(MODEL, jax.random.key(0)))
    logp, entropy = jax.eval_shape(
        lambda p: policy_logprobs(p, experience, model=MODEL, temperature=1.0), params
    )
    assert (logp.shape, entropy.shape) == ((2, 3, 5), (2, 3, 5))
