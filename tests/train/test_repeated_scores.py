"""Several scores of each completion: their means, masks and seeds, and methods that need them."""

import dataclasses
from functools import partial

import digits_run
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits_run import Digits, digits
from jax.sharding import NamedSharding, PartitionSpec
from judge_server import JudgeServer, say
from learning_cases import WEIGHTS, descent, ragged_experience, step_of, table_loss

from dvaojax import aggregators
from dvaojax.config import AggregatorConfig, validate
from dvaojax.errors import UserError
from dvaojax.integrations.measured import require_no_norms
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.preferences import Baseline, PairwiseScorer
from dvaojax.train.scoring import score_groups
from dvaojax.types import Completion, Prompt


@dataclasses.dataclass(frozen=True)
class Judged(Digits):
    """A task with a judge, which is not asked here."""

    judge: JudgeConfig = JudgeConfig()


def noisy(completion, reference):
    """A reward with noise that the number of the score determines."""
    sign = 1 if (len(completion.text) + completion.scoring) % 2 else -1
    return digits(completion, reference) + 0.1 * sign


def late(completion, reference):
    """Not scored the first time; not at all for long texts."""
    del reference
    return float(completion.scoring) if completion.scoring and len(completion.text) < 3 else None


def group(*texts):
    return [Completion(text, tuple(range(len(text))), True) for text in texts]


@pytest.mark.parametrize("groups", [[group("1", "2a"), group("3bc", "4")], [group("1"), group()]])
def test_rewards_are_means_over_the_scores_that_there_are(groups):
    suite = RewardSuite({"noisy": noisy, "late": late})
    prompts = [Prompt("?", "1", i) for i in range(2)]
    indices, shape = np.arange(2), (2, 2)
    scores = score_groups(suite, groups, prompts, groups=indices, shape=shape, repeats=3)
    assert scores.repeated.shape == (2, 2, 2, 3)
    assert scores.rewards.dtype == scores.repeated.dtype == np.float32
    for b, g in np.ndindex(shape):
        for k, function in enumerate((noisy, late)):
            values = [None] * 3
            if g < len(groups[b]):
                copies = [dataclasses.replace(groups[b][g], scoring=m) for m in range(3)]
                values = [function(completion, "1") for completion in copies]
            expected = np.array([np.nan if v is None else v for v in values])
            np.testing.assert_allclose(scores.repeated[b, g, k], expected, rtol=1e-6)
            assert scores.mask[b, g, k] == np.isfinite(expected).any()
            mean = np.mean(expected[np.isfinite(expected)]) if scores.mask[b, g, k] else 0
            np.testing.assert_allclose(scores.rewards[b, g, k], mean, rtol=1e-6)
    once = score_groups(suite, groups, prompts, groups=indices, shape=shape)
    assert once.repeated is None


def test_a_judge_gets_another_seed_for_each_score_and_its_cache_keeps_all(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    prompts = [Prompt("?", Baseline((("user", "?"),), "no"), 0)]
    with JudgeServer(lambda n, request: say(f"Verdict: {'AB'[request.get('seed', 0) % 2]}")) as s:
        config = JudgeConfig(url=s.url, temperature=1.0, cache=str(tmp_path / "cache"))
        score = partial(score_groups, groups=np.arange(1), shape=(1, 1), repeats=3, prompts=prompts)
        scores = score(PairwiseScorer(Judge(config)), [group("yes")])
        again = score(PairwiseScorer(Judge(config)), [group("yes")])
        once = PairwiseScorer(Judge(config)).score([group("yes")], prompts)
    seeds = sorted(request.get("seed", 0) for request in s.requests)
    assert seeds == [0, 0, 1, 1, 2, 2], "both orders, and the second time from the cache"
    assert sum("seed" in request for request in s.requests) == 4
    np.testing.assert_array_equal(scores.repeated, again.repeated)
    assert once.measures["judge/cached"] == 2


def scored(rewards, mask, seed=0):
    """Three scores around each reward, some of them missing, with another noise per objective."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(*rewards.shape, 3)) * np.array([0.2, 0.5, 1.0])[:, None]
    missing = rng.random(noise.shape) < 0.1
    return jnp.asarray(np.where(missing | ~mask[..., None], np.nan, rewards[..., None] + noise))


def by_loop(scores, weights):
    """`dvao_of_repeats` in float64; NaN where there is no score."""
    *groups, num_objectives, _ = scores.shape
    squares, degrees = np.zeros(num_objectives), np.zeros(num_objectives)
    mean, share = np.full((*groups, num_objectives), np.nan), np.zeros((groups[0], num_objectives))
    for b, g, k in np.ndindex(*groups, num_objectives):
        values = [x for x in scores[b, g, k] if np.isfinite(x)]
        if values:
            mean[b, g, k] = sum(values) / len(values)
            squares[k] += sum((x - mean[b, g, k]) ** 2 for x in values)
            degrees[k] += len(values) - 1
            share[b, k] += 1 / len(values)
    out = np.zeros(groups)
    for b in range(groups[0]):
        total = scale = 0.0
        for k in range(num_objectives):
            column = mean[b, :, k]
            known = np.isfinite(column)
            if known.sum() < 2:
                continue
            noise = squares[k] / degrees[k] * share[b, k] / known.sum()
            sample = column[known].var(ddof=1)
            counted = weights[k] * np.sqrt(max(0.0, 1 - noise / sample)) if sample > 0 else 0
            total = total + counted * np.where(known, column - column[known].mean(), 0)
            scale += counted * column[known].std()
        out[b] = total / scale if scale > 0 else 0
    return out


def test_a_step_estimates_the_noise_from_the_scores_of_the_whole_batch():
    experience = ragged_experience()
    learning = dataclasses.replace(digits_run.CONFIG.learning, micro_batches=4)
    scores = scored(np.asarray(experience.rewards), np.asarray(experience.reward_mask))
    where = np.isfinite(scores)
    means = np.where(where, scores, 0).sum(-1) / np.maximum(where.sum(-1), 1)
    experience = experience._replace(
        rewards=jnp.asarray(means, jnp.float32),
        reward_mask=jnp.asarray(where.any(-1)),
        repeated=scores.astype(jnp.float32),
    )
    method = aggregators.make("dvao_of_repeats", WEIGHTS)
    _, _, advantages = descent(
        step_of(table_loss(), aggregator=method, learning=learning), experience
    )
    expected = by_loop(np.asarray(scores, np.float64), np.asarray(WEIGHTS))
    np.testing.assert_allclose(advantages, expected, rtol=1e-4, atol=1e-5)
    plain = aggregators.dvao(experience.rewards, WEIGHTS, mask=experience.reward_mask)
    assert np.abs(advantages - plain).max() > 0.05, "the noise makes a difference"
    mesh = jax.make_mesh((8,), ("data",))
    placed = jax.device_put(experience, NamedSharding(mesh, PartitionSpec("data")))
    split, _ = jax.jit(method.update)(
        placed.rewards, placed.reward_mask, (), None, scores=placed.repeated
    )
    np.testing.assert_allclose(split, advantages, rtol=1e-5, atol=1e-6)


def test_methods_that_need_scores_are_refused_without_by_name():
    config = digits_run.digits_config(aggregator={"name": "dvao_of_repeats"})
    with pytest.raises(UserError, match=r"dvao_of_repeats estimates .* set rewards\.repeats"):
        validate(config)
    twice = dataclasses.replace(config, rewards=dataclasses.replace(config.rewards, repeats=2))
    validate(twice)
    shadowed = digits_run.digits_config(aggregator={"shadows": ("dvao_of_repeats",)})
    with pytest.raises(UserError, match="dvao_of_repeats estimates the noise"):
        validate(shadowed)
    alone = dataclasses.replace(twice, group_size=1)
    with pytest.raises(UserError, match="group_size=1: dvao_of_repeats compares"):
        validate(alone)
    with pytest.raises(ValueError, match=r"rewards\.repeats=0 must be at least 1"):
        dataclasses.replace(config.rewards, repeats=0)
    with pytest.raises(UserError, match=r"dvao_of_repeats needs several scores .*repeats"):
        require_no_norms("dvao_of_repeats", aggregators.make("dvao_of_repeats", WEIGHTS))
    with pytest.raises(ValueError, match="dvao_of_repeats needs several scores"):
        aggregators.make("dvao_of_repeats", WEIGHTS).update(jnp.ones((2, 3, 3)), None, (), None)
    judged = dataclasses.replace(twice, task=Judged())
    with pytest.raises(UserError, match=r"repeats=2: at task\.judge\.temperature=0"):
        validate(judged)
    validate(dataclasses.replace(judged, rewards=config.rewards, aggregator=AggregatorConfig()))
