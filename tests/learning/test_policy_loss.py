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
    """The log-probabilities without shared prompts.

    Every prompt is repeated for each of its completions, under plain causal attention.
    """
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
    """The token mean of the clipped surrogate, from its formula."""
    where = experience.completion_mask
    logp = repeated_logprobs(params, experience, temperature=temperature)
    ratio = jnp.exp(jnp.where(where, logp - experience.logprobs, 0.0))
    advantages = jnp.where(where, advantages[..., None], 0.0)
    terms = jnp.minimum(ratio * advantages, jnp.clip(ratio, 0.8, 1.2) * advantages)
    return -jnp.sum(terms) / jnp.sum(where, dtype=jnp.float32)


@pytest.mark.slow
def test_shared_prompts_give_value_and_gradient_of_repeated_prompts():
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


def test_result_does_not_depend_on_the_chunk_of_logits():
    experience, params = ragged_experience(), models.init(MODEL, jax.random.key(1))
    results = []
    for model in (MODEL, dataclasses.replace(MODEL, logits_chunk=16)):  # two tokens per group
        measure = jax.jit(partial(policy_logprobs, model=model, temperature=0.7))
        is_chunked = "tensor<16x6xf32>" in measure.lower(params, experience).as_text()
        assert is_chunked == (model.logits_chunk == 16)
        results.append(measure(params, experience))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_unchanged_policy_has_ratio_one_and_a_gradient():
    """Trap 26: at ratio 1 the value has no meaning, the gradient is the policy gradient."""
    experience = ragged_experience()
    sampler_logprobs = table_logprobs(table_params(), experience, temperature=0.6)[0]
    step = table_step(temperature=0.6)
    gradient, metrics, _ = descent(step, experience._replace(logprobs=sampler_logprobs))
    np.testing.assert_allclose(metrics["ratio"].value, 1.0, atol=1e-6)
    assert metrics["clip_fraction"].value == 0.0
    assert np.abs(gradient).max() > 0.01


def test_the_trainer_divides_by_the_samplers_temperature():
    experience = ragged_experience()
    sampler_logprobs = table_logprobs(table_params(), experience, temperature=1.3)[0]
    step = table_step(temperature=1.0)
    _, metrics, _ = descent(step, experience._replace(logprobs=sampler_logprobs))
    assert abs(metrics["ratio"].value - 1.0) > 0.01


@pytest.mark.parametrize("reduction", slow_but(["token_mean"], sorted(losses.REDUCTIONS)))
def test_padding_after_the_longest_completion_changes_nothing(reduction):
    """Buckets may be wider; the constant of Dr.GRPO is the sampler's limit, not the bucket's."""
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
def test_penalty_towards_the_policy_itself_is_zero(estimator):
    experience = ragged_experience()
    gradient, metrics, _ = descent(kl_step(estimator), experience, reference=table_params())
    assert metrics["kl"].value == 0.0
    if estimator == "k1":  # its gradient is zero only in the mean over samples
        return
    without, _, _ = descent(table_step(), experience)
    np.testing.assert_allclose(gradient, without, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("estimator", sorted(losses.KL_ESTIMATORS))
def test_penalty_towards_a_reference_against_direct_computation(estimator):
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


def test_reference_gets_no_gradient_and_is_not_modified():
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


def test_reference_is_evaluated_in_micro_batches():
    shapes = []

    def reference_logprobs(params, experience):
        shapes.append(experience.completion_tokens.shape)
        return table_logprobs(params, experience)[0]

    loss = table_loss(LossConfig(kl_weight=0.1))
    learning = LearningConfig(epochs=3, mini_batches=2, micro_batches=2)
    step = step_of(loss, learning=learning, reference_logprobs=reference_logprobs)
    step(new_state(optax.sgd(1.0)), ragged_experience(), table_params(seed=9))
    assert set(shapes) == {(2, 4, 7)}


def test_gradient_with_a_penalty_does_not_depend_on_micro_batches():
    results = []
    for cut in (1, 4):
        config = LossConfig(kl_weight=0.5, reduction="sequence_mean")
        step = table_step(config, learning=LearningConfig(micro_batches=cut))
        results.append(descent(step, ragged_experience(), reference=table_params(seed=9)))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_options_reach_the_loss():
    """Each of two knobs changes the gradient of a batch with ratios on both sides of the clip."""
    experience = ragged_experience()
    experience = experience._replace(logprobs=experience.logprobs - 0.4)
    usual, _, _ = descent(table_step(LossConfig()), experience)
    for option in ("clip_high=0.6", "dual_clip=1.3"):
        moved, _, _ = descent(table_step(LossConfig(options=(option,))), experience)
        assert np.abs(moved - usual).max() > 1e-3, option


def gradients_of_every_loss(batch):
    """Name -> (gradient, metrics) of every loss, in one program."""

    def gradient_and_metrics(name):
        loss = table_loss(LossConfig(name=name, reduction="token_mean"))
        return accumulate(gradient_of(loss), table_params(), batch, jnp.arange(8).reshape(2, 4))

    return jax.jit(lambda: {name: gradient_and_metrics(name) for name in losses.BY_NAME})()


@pytest.mark.slow
def test_losses_differ_off_policy():
    experience = ragged_experience()
    advantages = jnp.asarray(np.random.default_rng(3).normal(size=(8, 4)), jnp.float32) * 2
    batch = PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs))
    results = gradients_of_every_loss(batch)
    for name, (gradient, metrics) in results.items():
        assert np.all(np.isfinite(gradient["table"])), name
        assert np.isfinite(metrics["loss"].value), name
        for other in results:
            # The two forms of GSPO are equal for one advantage per sequence.
            if other != name and {name, other} != {"gspo", "gspo_token"}:
                assert np.abs(gradient["table"] - results[other][0]["table"]).max() > 1e-4, other


@pytest.mark.slow
def test_losses_except_lco_and_dynamo_have_the_policy_gradient_of_an_unchanged_policy():
    experience = ragged_experience()
    sampler_logprobs = table_logprobs(table_params(), experience)[0]
    experience = experience._replace(logprobs=sampler_logprobs)
    advantages = jnp.asarray(np.random.default_rng(3).normal(size=(8, 4)), jnp.float32)
    batch = PolicyBatch(experience, advantages, jnp.zeros_like(sampler_logprobs))
    results = gradients_of_every_loss(batch)
    expected = gradient_by_loop(experience, advantages, reduction="token_mean")
    dropped = results.pop("clip_cov")[1]["clip_fraction"]  # tokens without a gradient
    assert 0 < dropped.total <= 8
    for name, (gradient, metrics) in results.items():
        np.testing.assert_allclose(metrics["ratio"].value, 1.0, atol=1e-5)
        # The penalty of KL-Cov has slope 1 where rounding has changed the ratio.
        slack = 1.1 * metrics["clip_fraction"].value if name == "kl_cov" else 0.0
        if name.startswith(("lco", "dynamo")):  # another gradient, but also ascent
            assert np.sum(gradient["table"] * expected) > 0, name
        else:
            atol = 1e-5 + slack
            np.testing.assert_allclose(gradient["table"], expected, rtol=1e-3, atol=atol)


def test_truncated_importance_weights_in_the_first_update():
    """In the first update the ratio is 1, and the weight of a token is the truncated one."""
    cap, experience = 1.2, ragged_experience()
    where = np.asarray(experience.completion_mask)
    config = LossConfig(importance_cap=cap)
    recomputed = {"recomputed_logprobs": lambda params, e: table_logprobs(params, e)[0]}
    learning = LearningConfig(micro_batches=2)
    step = step_of(table_loss(config), learning=learning, **recomputed)
    gradient, metrics, advantages = descent(step, experience)
    logp_old = np.asarray(table_logprobs(table_params(), experience)[0], np.float64)
    weights = np.minimum(np.exp(logp_old - np.asarray(experience.logprobs)), cap)
    np.testing.assert_allclose(metrics["ratio"].value, 1.0, atol=1e-6)
    np.testing.assert_allclose(metrics["importance_weight"].value, weights[where].mean(), rtol=1e-5)
    truncated = (weights[where] == cap).mean()
    assert 0 < truncated < 1
    np.testing.assert_allclose(metrics["importance_truncated"].value, truncated, rtol=1e-5)

    # Equivalent to a sampler whose probabilities are smaller by the weights, without a clip.
    equivalent = np.where(where, logp_old - np.log(weights), 0)
    expected = gradient_by_loop(
        experience._replace(logprobs=equivalent), advantages, reduction="token_mean", clip=np.inf
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_policy_is_recomputed_in_micro_batches_before_the_first_update():
    shapes = []

    def recomputed_logprobs(params, experience):
        shapes.append(experience.completion_tokens.shape)
        return table_logprobs(params, experience)[0]

    config, learning = LossConfig(importance_cap=2.0), LearningConfig(epochs=2, micro_batches=4)
    parts = {"recomputed_logprobs": recomputed_logprobs}
    step = step_of(table_loss(config), learning=learning, **parts)
    _, metrics, _ = descent(step, ragged_experience())
    assert set(shapes) == {(2, 4, 7)}
    # The policy has changed in the second pass; the weights have not.
    assert metrics["approximate_kl"].value > 1e-4
    once = step_of(table_loss(config), learning=LearningConfig(micro_batches=4), **parts)
    _, first_metrics, _ = descent(once, ragged_experience())
    weights = [m["importance_weight"].value for m in (metrics, first_metrics)]
    np.testing.assert_allclose(*weights, rtol=1e-6)


def test_entropy_is_that_of_the_sampled_distribution():
    experience = ragged_experience()
    _, metrics, _ = descent(table_step(), experience)
    table = np.asarray(table_params()["table"], np.float64)
    probabilities = np.exp(table) / np.exp(table).sum(-1, keepdims=True)
    entropies = -(probabilities * np.log(probabilities)).sum(-1)
    total = 0.0
    for b, g, t in np.argwhere(np.asarray(experience.completion_mask)):
        prompt_end = experience.prompt_tokens[b, experience.prompt_lengths[b] - 1]
        total += entropies[int(experience.completion_tokens[b, g, t - 1] if t else prompt_end)]
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
def test_rejects_loss_settings_by_name(setting, value):
    with pytest.raises(ValueError, match=rf"^loss\.{setting}.*{value!r}") as error:
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
def test_rejects_unknown_and_invalid_options(name, option, message):
    with pytest.raises(ValueError, match=rf"^loss\.options\b.*{message}") as error:
        LossConfig(name=name, options=(option,)).check_options()
    assert "\n" not in str(error.value)


def test_logprobs_have_the_shape_of_the_tokens():
    experience = ragged_experience(prompts=2, group=3, length=5)
    params = jax.eval_shape(lambda: models.init(MODEL, jax.random.key(0)))
    logp, entropy = jax.eval_shape(
        lambda p: policy_logprobs(p, experience, model=MODEL, temperature=1.0), params
    )
    assert (logp.shape, entropy.shape) == ((2, 3, 5), (2, 3, 5))
