"""DPO on the best and the worst completion of a group: a loop, limits, masks and runs."""

import dataclasses
import json
import math

import digits_run
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning_cases import descent, ragged_experience, step_of, table_logprobs, table_loss

from dvaojax.config import Config, overrides, validate
from dvaojax.errors import UserError
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.losses.dpo import best_and_worst, dpo
from dvaojax.train import train

B, G, T, BETA = 4, 3, 5, 0.3
RNG = np.random.default_rng(0)
LENGTHS = np.array([[5, 2, 3], [1, 4, 0], [3, 3, 3], [0, 5, 0]])
WHERE = np.arange(T) < LENGTHS[..., None]
ADVANTAGES = np.where(np.arange(B)[:, None] == 2, 0.7, RNG.normal(size=(B, G)))
LOGP, REFERENCE = (np.where(WHERE, -RNG.exponential(size=(B, G, T)), np.nan) for _ in range(2))


def by_loop(logp):
    """Loss of each pair; none for equal advantages (group 2) and a single completion (group 3)."""
    terms, margins = [], []
    for b in range(B):
        sampled = [g for g in range(G) if LENGTHS[b, g]]
        best, worst = (f(sampled, key=lambda g, b=b: ADVANTAGES[b, g]) for f in (max, min))
        if ADVANTAGES[b, best] == ADVANTAGES[b, worst]:
            continue
        gains = [np.nansum(logp[b, g] - REFERENCE[b, g]) for g in (best, worst)]
        margins.append(BETA * (gains[0] - gains[1]))
        terms.append(-math.log(1 / (1 + math.exp(-margins[-1]))))
    return terms, margins


def loss(logp, advantages=ADVANTAGES, where=WHERE, reference=REFERENCE):
    with jax.enable_x64(True):
        arrays = map(jnp.asarray, (logp, reference, advantages, where))
        compute = jax.jit(lambda x, r, a, w: dpo(x, r, a, where=w, beta=BETA))
        return jax.tree.map(np.asarray, compute(*arrays))


def test_loss_is_that_of_a_loop_and_its_gradient_that_of_differences():
    terms, margins = by_loop(LOGP)
    mean, info = loss(LOGP)
    assert (mean.count, len(terms)) == (2, 2)
    np.testing.assert_allclose(mean.total, sum(terms), rtol=1e-12)
    np.testing.assert_allclose(info.margin.value, np.mean(margins), rtol=1e-6)
    assert info.accuracy.value == np.mean(np.array(margins) > 0)
    assert info.pairs.value == 2 / 4
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in (REFERENCE, ADVANTAGES)]
        gradient = jax.jit(
            jax.grad(lambda x: dpo(x, *arrays, where=jnp.asarray(WHERE), beta=BETA)[0].total)
        )(jnp.asarray(LOGP))
        gradient = np.asarray(gradient)
    for i in np.ndindex(LOGP.shape):
        if not WHERE[i]:
            assert gradient[i] == 0
            continue
        moved = [LOGP.copy() for _ in range(2)]
        moved[0][i] += 1e-5
        moved[1][i] -= 1e-5
        slope = (sum(by_loop(moved[0])[0]) - sum(by_loop(moved[1])[0])) / 2e-5
        np.testing.assert_allclose(gradient[i], slope, rtol=1e-6, atol=1e-9)


def test_at_the_reference_the_loss_is_log_two_and_far_from_it_zero():
    mean, info = loss(REFERENCE)
    np.testing.assert_allclose(mean.value, math.log(2))
    assert (info.margin.value, info.accuracy.value) == (0, 0)
    preferred = np.where(np.arange(G) == np.argmax(ADVANTAGES[:1]), 100.0, 0.0)[..., None]
    one = np.zeros(B, bool)
    one[0] = True
    mean, info = loss(REFERENCE + preferred, where=WHERE & one[:, None, None])
    np.testing.assert_allclose(mean.value, 0, atol=1e-12)
    assert (info.pairs.value, info.accuracy.value) == (1, 1)


def test_only_the_order_of_the_advantages_counts_and_no_order_of_completions():
    expected, _ = loss(LOGP)
    assert loss(LOGP, np.exp(3 * ADVANTAGES))[0] == expected
    order = np.array([2, 0, 1])
    permuted = [x[:, order] for x in (LOGP, ADVANTAGES, WHERE, REFERENCE)]
    np.testing.assert_allclose(loss(*permuted)[0], expected, rtol=1e-12)
    parts = [loss(*(x[p] for x in (LOGP, ADVANTAGES, WHERE, REFERENCE))) for p in ([0], [1, 2, 3])]
    both = jax.tree.map(lambda a, b: a + b, *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), both, loss(LOGP))


def test_equal_scores_are_no_pair_for_any_value():
    scores = jnp.asarray([[0.1 + 0.2] * 3, [-1e30] * 3, [1.0, 1.0, 2.0], [jnp.nan] * 3])
    pairs = best_and_worst(scores, jnp.ones((4, 3), bool))
    assert list(pairs.exists) == [False, False, True, False]
    assert (pairs.best[2], pairs.worst[2]) == (2, 0)


@pytest.mark.parametrize("parts", [2, 8])
def test_a_step_does_not_depend_on_its_micro_batches(parts):
    experience = ragged_experience()
    reference = {"table": jnp.asarray(RNG.normal(size=(6, 6)), jnp.float32)}
    results = []
    for number in (1, parts):
        step = step_of(
            table_loss(LossConfig(name="dpo")),
            reference_logprobs=lambda params, e: table_logprobs(params, e)[0],
            learning=LearningConfig(micro_batches=number),
        )
        results.append(descent(step, experience, reference=reference))
    (whole, metrics, _), (split, split_metrics, _) = results
    assert np.abs(whole).max() > 1e-3
    np.testing.assert_allclose(split, whole, rtol=1e-4, atol=1e-6)
    for name in ("loss", "pairs/margin", "pairs/accuracy", "pairs/share", "ratio"):
        np.testing.assert_allclose(split_metrics[name], metrics[name], rtol=1e-4, atol=1e-6)
    assert metrics["loss"].count == 8


def test_settings_about_single_tokens_are_refused():
    config = overrides.apply(Config(), ["loss.name=dpo", "aggregator=dr_grpo"])
    validate(config)
    assert config.loss.needs_reference
    for setting in (
        "importance_cap=2",
        "kl_weight=0.1",
        "reduction=token_mean",
        "capo.preset=capo",
    ):
        name = setting.split("=")[0].split(".")[0]
        with pytest.raises(UserError, match=rf"loss.{name} is about single tokens"):
            overrides.apply(config, [f"loss.{setting}"])
    with pytest.raises(UserError, match=r"gradalign .* ratio 1, .*loss.name=dpo"):
        validate(overrides.apply(config, ["allocation.name=gradalign"]))
    with pytest.raises(UserError, match=r"loss.options, of dpo: beta=0.0 must be finite"):
        validate(overrides.apply(config, ["loss.options=beta=0"]))


@pytest.mark.slow
def test_a_run_with_pairs_keeps_its_reference(tmp_path):
    config = dataclasses.replace(
        digits_run.digits_config(num_steps=3), loss=LossConfig(name="dpo", options=("beta=0.5",))
    )
    with digits_run.quick_programs():
        train(config, tmp_path)
    path = tmp_path / config.name / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    np.testing.assert_allclose(rows[0]["loss"], math.log(2), rtol=1e-5)
    assert rows[0]["pairs/margin"] == pytest.approx(0, abs=1e-5)
    assert abs(rows[-1]["pairs/margin"]) > 1e-3
    assert all(0 < row["pairs/share"] <= 1 and row["skipped_updates"] == 0 for row in rows)
