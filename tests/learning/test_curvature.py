"""CAPO in the train step: tokens are left out by the next step, however a batch is split."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import new_state, ragged_experience
from slowness import nightly_but

from dvaojax import aggregators, losses, models
from dvaojax.config import Config, overrides, validate
from dvaojax.data.packing import CompletionLayout, pack
from dvaojax.errors import UserError
from dvaojax.learning.curvature import CapoConfig, logprobs_and_shifts, prospective_step
from dvaojax.learning.optimizer import OptimizerConfig, make_optimizer, next_learning_rate
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch, make_policy_loss
from dvaojax.learning.preparation import joined_once
from dvaojax.learning.train_step import LearningConfig, make_train_step
from dvaojax.losses.capo import Thresholds
from dvaojax.models import ModelConfig
from dvaojax.sharding import MeshConfig, make_mesh, named, on_mesh, shardings

MODEL = ModelConfig(
    vocab_size=6, width=8, num_layers=1, num_heads=2, num_kv_heads=2, head_width=4, ff_width=16
)
OPTIMIZER = OptimizerConfig(learning_rate=0.02, schedule="linear", max_grad_norm=math.inf)
UPDATES = 10


def test_thresholds_are_the_presets_unless_given():
    assert not CapoConfig().is_used
    assert CapoConfig(preset="capo").thresholds == Thresholds(1e-4, 1e-2)
    assert CapoConfig(preset="capo").model_of_step == "adam"
    changed = CapoConfig(preset="capo", policy_shift=math.inf, step="sgd")
    assert (changed.thresholds, changed.model_of_step) == (Thresholds(math.inf, 1e-2), "sgd")
    assert CapoConfig(objective_shift=0.1).thresholds == Thresholds(math.inf, 0.1)
    assert CapoConfig(policy_shift=math.inf).is_used


def test_settings_of_a_run_are_checked_by_name():
    config = overrides.apply(
        Config(), ["loss.capo.preset=dr_capo", "loss.capo.step=sgd", "loss.capo.policy_shift=inf"]
    )
    validate(config)
    assert config.loss.capo.thresholds == Thresholds(math.inf, 5e-4)
    with pytest.raises(UserError, match=r"loss.capo reads .* set 'recompute'"):
        validate(overrides.apply(config, ["model.logits_backward=keep"]))
    for setting, message in (
        ("preset=drcapo", "loss.capo.preset: unknown 'drcapo'"),
        ("policy_shift=-1", r"loss.capo.policy_shift=-1.0 must not be negative"),
        ("most_likely=1", "loss.capo.most_likely=1 must be at least 2"),
        ("step=rmsprop", "loss.capo.step"),
    ):
        with pytest.raises(UserError, match=message):
            overrides.apply(config, [f"loss.capo.{setting}"])


@pytest.mark.parametrize("floor", [1.0, 0.1])
def test_the_rate_is_that_of_the_next_update(floor):
    config = dataclasses.replace(OPTIMIZER, warmup_updates=3, snr_floor=floor, snr_decay=0.0)
    optimizer = optax.with_extra_args_support(make_optimizer(config, UPDATES))
    params = {"embedding": jnp.ones((2, 2))}
    state, rates, announced = optimizer.init(params), [], []
    for _ in range(6):
        announced.append(float(next_learning_rate(config, UPDATES, state)))
        with jax.numpy_dtype_promotion("standard"):
            # Equal gradients: Adam's step is the learning rate.
            update, state = optimizer.update(params, state, params, signal=1.0, noise=1.0)
        rates.append(-float(update["embedding"][0, 0]))
    if floor < 1.0:  # the running means are those before the update
        assert announced[1] == pytest.approx(rates[1])
        announced[0] = rates[0]
    np.testing.assert_allclose(announced, rates, rtol=1e-4, atol=1e-9)


def trained(model, *, optimizer=OPTIMIZER):
    """A state after an update, so that moments are not 0."""
    params = models.init(model, jax.random.key(1))
    transformation = make_optimizer(optimizer, UPDATES)
    state = new_state(transformation, params)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    random = [0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    with jax.numpy_dtype_promotion("standard"):
        _, after = transformation.update(
            jax.tree.unflatten(structure, random), state.learner.optimizer_state, params
        )
    return state._replace(learner=state.learner._replace(optimizer_state=after))


def step_of(config, model, *, micro_batches=1, has_capo=True):
    prospective = prospective_step(
        config.capo, OPTIMIZER, num_updates=UPDATES, is_head_tied=model.tied_head
    )
    loss = make_policy_loss(config, model=model, temperature=0.7, max_new_tokens=9)
    return make_train_step(
        LearningConfig(micro_batches=micro_batches),
        loss=loss,
        optimizer=make_optimizer(OPTIMIZER, UPDATES),
        aggregator=aggregators.make("rloo", jnp.asarray([1.0, 0.5, 2.0])),
        prospective=prospective if has_capo else None,
        prepare=joined_once(model),
    )


def experience_of_policy(model, params):
    """Ragged experience whose ratios are 1."""
    experience = ragged_experience(prompts=4, group=2, length=4)
    logp, _ = policy_logprobs(params, experience, model=model, temperature=0.7)
    return experience._replace(logprobs=logp)


def head_of(params):
    """`[D, V]`."""
    return params["head"] if "head" in params else params["embedding"].T


def shifts_by_loops(state, experience, advantages, model, *, step, count):
    """Both shifts of every sampled token, from full logits and the optimiser's moments."""
    params, moments = state.learner.params, state.learner.optimizer_state
    rate = OPTIMIZER.learning_rate * (1 - 1 / UPDATES)  # one update was made
    hidden_states = jax.jit(lambda tokens: models.apply(model, params).prefill(tokens)[0][0])
    mean, square = (np.asarray(head_of(optax.tree.get(moments, m))).T for m in ("mu", "nu"))
    shape = experience.completion_mask.shape
    both = np.zeros((2, *shape))
    for b, g, t in np.argwhere(experience.completion_mask):
        end = int(experience.prompt_lengths[b])
        tokens = np.asarray(experience.completion_tokens[b, g])
        sequence = np.zeros(12, np.int32)
        sequence[: end + t] = [*experience.prompt_tokens[b, :end], *tokens[:t]]
        state_before = np.asarray(hidden_states(sequence[None])[end + t - 1]) / 0.7
        logits = np.float64(state_before @ np.asarray(head_of(params)))
        rows = np.argsort(-logits)[:count]
        probabilities = np.exp(logits[rows]) / np.exp(logits[rows]).sum()
        difference, advantage = (rows == tokens[t]) - probabilities, advantages[b, g]
        gradient = advantage * np.outer(difference, state_before)
        direction = gradient
        if step == "adam":
            first = (-0.9 * mean[rows] + 0.1 * gradient) / (1 - 0.9**2)
            second = (0.95 * square[rows] + 0.05 * gradient**2) / (1 - 0.95**2)
            direction = first / (np.sqrt(second) + 1e-8)
        u = direction @ state_before
        spread = probabilities @ u**2 - (probabilities @ u) ** 2
        along = (difference @ u) ** 2
        second_order = 0.5 * rate**2 * advantage * (along - spread)
        both[:, b, g, t] = 0.5 * rate**2 * along, rate * (gradient * direction).sum() + second_order
    return both


@pytest.mark.slow
def test_the_closed_form_takes_no_product_over_the_vocabulary():
    """Loss and gradient have the products of the same loss without CAPO, in one pass."""
    state = jax.eval_shape(lambda: trained(MODEL))
    experience = ragged_experience(prompts=4, group=2, length=4)

    def products(config):
        step = step_of(config, MODEL, has_capo=config.capo.is_used)
        return str(jax.make_jaxpr(step)(state, experience, None)).count("dot_general")

    plain, closed, adam = (
        products(LossConfig(capo=capo))
        for capo in (CapoConfig(), CapoConfig(policy_shift=0.1), CapoConfig(preset="capo"))
    )
    assert closed == plain
    assert adam > plain


CASES = {"adam, tied": ("adam", True), "adam": ("adam", False), "sgd": ("sgd", False)}


@pytest.mark.slow
@pytest.mark.parametrize("case", nightly_but(["adam, tied"], CASES))
def test_a_step_leaves_out_tokens_by_the_optimizers_own_moments(case):
    """Loss and metrics as computed by loops; the same by micro-batches, packed, and on devices."""
    step, tied = CASES[case]
    model = dataclasses.replace(MODEL, tied_head=tied)
    state = trained(model)
    experience = experience_of_policy(model, state.learner.params)
    advantages = np.asarray(
        aggregators.rloo(
            experience.rewards, jnp.asarray([1.0, 0.5, 2.0]), mask=experience.reward_mask
        )
    )
    policy, objective = shifts_by_loops(
        state, experience, advantages, model, step=step, count=4 if step == "adam" else 6
    )
    where = np.asarray(experience.completion_mask)
    thresholds = Thresholds(
        float(np.median(policy[where])), float(np.quantile(np.abs(objective[where]), 0.8))
    )
    config = LossConfig(
        reduction="token_mean",
        capo=CapoConfig(
            step=step,
            most_likely=4,
            policy_shift=thresholds.policy,
            objective_shift=thresholds.objective,
        ),
    )
    rejects = (policy >= thresholds.policy), (np.abs(objective) >= thresholds.objective)
    kept = where & ~rejects[0] & ~rejects[1]
    assert 0.1 < kept.sum() / where.sum() < 0.6
    after, metrics, _ = jax.jit(step_of(config, model))(state, experience, None)
    expected = {
        "capo/rejected": 1 - kept.sum() / where.sum(),
        "capo/rejected_by_policy_shift": rejects[0][where].mean(),
        "capo/rejected_by_objective_shift": rejects[1][where].mean(),
        "loss": -(advantages[..., None] * kept).sum() / kept.sum(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name].value, value, rtol=1e-4, atol=1e-5)
    assert float(metrics["loss"].count) == kept.sum()

    lengths = where.sum(-1)
    packed = jnp.asarray(pack(lengths, CompletionLayout(width=4, slots=8)))
    mesh = make_mesh(MeshConfig(2, 2, 2), jax.devices()[:8])
    others = {
        "packed micro-batches": (
            step_of(config, model, micro_batches=2),
            state,
            experience._replace(packed=packed),
        ),
        "devices": (
            on_mesh(mesh, step_of(config, model)),
            jax.device_put(state, shardings(mesh, state, models.logical_axes)),
            jax.device_put(experience, named(mesh, "group")),
        ),
    }
    for name, (function, *inputs) in others.items():
        other, other_metrics, _ = jax.jit(function)(*inputs, None)
        for metric in [*expected, "capo/policy_shift", "capo/objective_shift", "grad_norm"]:
            np.testing.assert_allclose(
                other_metrics[metric].value,
                metrics[metric].value,
                rtol=1e-3,
                atol=1e-6,
                err_msg=name,
            )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
            other.learner.params,
            after.learner.params,
        )


@pytest.mark.nightly
def test_no_gradient_flows_through_the_shifts():
    """The gradient is that of the loss over the kept tokens, as if they were given."""
    state = trained(MODEL)
    experience = experience_of_policy(MODEL, state.learner.params)
    advantages = jnp.asarray(np.random.default_rng(3).normal(size=(4, 2)), jnp.float32)
    config = CapoConfig(policy_shift=math.inf)
    prospective = prospective_step(config, OPTIMIZER, num_updates=UPDATES, is_head_tied=True)
    tried = prospective(state.learner)
    _, _, shifts = logprobs_and_shifts(
        state.learner.params,
        experience,
        advantages,
        tried,
        config=config,
        model=MODEL,
        temperature=0.7,
    )
    median = float(jnp.median(shifts.policy[experience.completion_mask]))
    config = dataclasses.replace(config, policy_shift=median)
    keep = losses.capo.keeps(shifts, config.thresholds)
    assert 0 < jnp.sum(keep & experience.completion_mask) < jnp.sum(experience.completion_mask)

    def plain(params):
        logp, _ = policy_logprobs(params, experience, model=MODEL, temperature=0.7)
        where = experience.completion_mask & keep
        return losses.policy_gradient(logp, advantages, where=where).total

    def with_shifts(params):
        loss = make_policy_loss(
            LossConfig(capo=config), model=MODEL, temperature=0.7, max_new_tokens=9
        )
        batch = PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs))
        return loss(params, batch, step=tried)[0]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        *(jax.jit(jax.grad(f))(state.learner.params) for f in (plain, with_shifts)),
    )
