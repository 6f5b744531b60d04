"""Micro-batches of packed rows: the same step as with padded rows, on far fewer slots."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning_cases import WEIGHTS, new_state

from dvaojax import aggregators, models
from dvaojax.data.packing import CompletionLayout, num_inputs, pack, packed_widths
from dvaojax.learning.packed_width import cut_to_longest_row, sort_by_packed_length
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch, make_policy_loss
from dvaojax.learning.train_step import LearningConfig, make_train_step
from dvaojax.models import ModelConfig
from dvaojax.types import Experience

MODEL = ModelConfig(
    vocab_size=11, width=8, num_layers=1, num_heads=2, num_kv_heads=1, head_width=4, ff_width=8
)
PROMPTS, GROUP, LENGTH = 8, 4, 64
WIDTHS = packed_widths(GROUP * LENGTH)  # 64, 96, 128 and 192
FULL = CompletionLayout(width=LENGTH, slots=WIDTHS[-1])


def lengths_of(seed):
    """Groups from almost empty to almost the capacity of a packed row."""
    rng = np.random.default_rng(seed)
    lengths = np.stack([rng.integers(0, most, GROUP) for most in (2, 60, 9, 30, 64, 16, 40, 5)])
    lengths[4] = (64, 64, 50, 10)
    return lengths


def experience_of(lengths):
    rng = np.random.default_rng(0)
    shape = (*lengths.shape, LENGTH)
    mask = np.arange(LENGTH) < lengths[..., None]
    experience = Experience(
        prompt_tokens=rng.integers(0, 11, (len(lengths), 5)).astype(np.int32),
        prompt_lengths=rng.integers(1, 6, len(lengths)).astype(np.int32),
        completion_tokens=rng.integers(0, 11, shape).astype(np.int32),
        completion_mask=mask,
        logprobs=np.where(mask, -2.4 + 0.3 * rng.normal(size=shape), 0.0).astype(np.float32),
        rewards=rng.normal(size=(*lengths.shape, 3)).astype(np.float32),
        reward_mask=np.ones((*lengths.shape, 3), bool),
    )
    return jax.tree.map(jnp.asarray, experience)


def test_groups_of_each_update_are_sorted_by_packed_length():
    packed = jnp.asarray(pack(lengths_of(0), FULL))
    order = jnp.asarray([[[3, 0], [4, 1]], [[2, 7], [5, 6]]])
    sorted_order = sort_by_packed_length(order, packed)
    tokens = num_inputs(lengths_of(0))
    for update, before in zip(np.asarray(sorted_order), np.asarray(order), strict=True):
        assert sorted(update.ravel()) == sorted(before.ravel())
        assert (np.diff(tokens[update.ravel()]) >= 0).all()


def test_rows_are_cut_to_the_smallest_sufficient_width():
    def width_of(params, batch):
        return jnp.asarray(batch.experience.packed.shape[1])

    cut = jax.jit(cut_to_longest_row(width_of))
    for tokens in (0, 1, WIDTHS[0], WIDTHS[0] + 1, WIDTHS[1], WIDTHS[2] + 1, WIDTHS[-1]):
        packed = np.full((3, WIDTHS[-1]), -1, np.int32)
        packed[1, :tokens] = np.arange(tokens)
        experience = experience_of(np.ones((3, GROUP), int))._replace(packed=jnp.asarray(packed))
        batch = PolicyBatch(experience, jnp.zeros((3, GROUP)), experience.logprobs)
        assert cut({}, batch) == min(width for width in WIDTHS if width >= tokens)


@pytest.mark.slow
def test_packed_step_equals_the_padded_one_and_is_compiled_once():
    """For updates, metrics and the reference's part in them, at all widths."""
    traces = []

    def aggregated(rewards, mask, state, key, /, *, lengths=None):
        traces.append(rewards.shape)
        return rloo.update(rewards, mask, state, key, lengths=lengths)

    rloo = aggregators.make("rloo", WEIGHTS)
    step = jax.jit(
        make_train_step(
            LearningConfig(mini_batches=2, micro_batches=2),
            loss=make_policy_loss(
                LossConfig(kl_weight=0.1),
                model=MODEL,
                temperature=1.0,
                max_new_tokens=LENGTH,
            ),
            optimizer=optax.sgd(0.1),
            aggregator=rloo._replace(update=aggregated),
            reference_logprobs=lambda params, experience: policy_logprobs(
                params, experience, model=MODEL, temperature=1.0
            )[0],
        )
    )
    params, reference = (models.init(MODEL, jax.random.key(seed)) for seed in (1, 2))
    state = new_state(optax.sgd(0.1), params)
    for seed in range(3):
        experience = experience_of(lengths_of(seed))
        packed = experience._replace(packed=jnp.asarray(pack(lengths_of(seed), FULL)))
        expected, expected_metrics, _ = step(state, experience, reference)
        actual, metrics, _ = step(state, packed, reference)
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected.learner.params, params)
        assert max(jax.tree.leaves(moved)) > 1e-3
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6),
            actual.learner.params,
            expected.learner.params,
        )
        for name, mean in expected_metrics.items():
            np.testing.assert_allclose(metrics[name].value, mean.value, rtol=1e-4, atol=1e-6)
    assert len(traces) == 2, "once for padded rows, once for all packed rows"


def test_few_slots_are_computed():
    """Counts the slots of the widths selected by the micro-batches."""
    order = jnp.arange(PROMPTS).reshape(1, 4, 2)
    tokens = num_inputs(lengths_of(0))
    pieces = np.asarray(sort_by_packed_length(order, jnp.asarray(pack(lengths_of(0), FULL))))[0]
    computed = sum(2 * min(w for w in WIDTHS if w >= tokens[piece].max()) for piece in pieces)
    assert computed < 0.65 * PROMPTS * min(w for w in WIDTHS if w >= tokens.max())
