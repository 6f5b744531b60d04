"""Every aggregator inside google-tunix's `GRPOLearner`, which is used as it is.

    from dvaojax.integrations.tunix import register

    chosen = register("dvao", {"accuracy": 1.0, "brevity": 0.5})
    config = GRPOConfig(num_generations=8, **chosen)
    learner = GRPOLearner(cluster, config, reward_fns=[accuracy, brevity])

Tunix asks a reward manager for the rewards of a batch of completions and hands what it returns to
an advantage estimator; it finds both by name in a registry that is open to anybody. Its own manager
returns the sum of the reward functions, and the vector is gone. The one that is registered here
asks Tunix's manager, returns the same sums as an array that carries the advantages of the vectors,
and adds what becomes of the objectives to the metrics; the estimator takes the advantages out.
Nothing of Tunix is replaced, and whatever else looks at the sums finds them as they were.

What is different from a run of `dvaojax train`. *The batch* of a method that looks at it, such as
`gdpo`, is what Tunix samples in one call: `rollout_micro_batch_size` prompts, to be set to
`mini_batch_size`. A method with memory takes one step a call, and not in evaluations; its `state`
is an attribute of `learner.reward_manager`, which Tunix's checkpoints do not hold. Tunix has no
mask: an objective that does not apply is a reward of NaN. Nor does it tell a manager the tokens of
a completion, only its text: see `count_tokens`.

Tunix is needed by `register` alone; the extra `tunix` brings it.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dvaojax.aggregators import METHODS, Aggregator, diagnostics, make, named_weights, needs_lengths
from dvaojax.aggregators._core.aggregator import State
from dvaojax.errors import UserError, import_extra


def register(
    method: str,
    weights: Mapping[str, float],
    *,
    count_tokens: Callable[[str], int] | None = None,
    seed: int = 0,
    **knobs: Any,
) -> dict[str, str]:
    """Makes an aggregator known to Tunix, under a name that says all there is to it.

    Args:
        method: a key of `aggregators.METHODS`.
        weights: one for each reward function of the learner, by its `__name__`, in any order.
        count_tokens: the tokens of a completion's text, for methods that weigh by length
            (`reinforce_plus_plus`, `gdpo_token_weighted`). The stop token has no text, and text
            that is encoded again may have another number of tokens than were sampled.
        seed: of the random key of methods that draw.
        knobs: the method's keyword-only arguments, such as `ddof`. One that has a number for each
            objective has them in the order of the learner's reward functions.

    Returns:
        `reward_manager` and `advantage_estimator`, for `GRPOConfig`.

    Raises:
        UserError: Tunix is not installed, there is no such method or knob, or the method needs
            `count_tokens`. The learner raises it if weights and reward functions do not match, two
            of these share a name, or one has none.
    """
    registry = import_extra("tunix.rl.function_registry", extra="tunix")
    managers = import_extra("tunix.rl.reward_manager", extra="tunix")
    make(method, jnp.asarray(list(weights.values())), **knobs)  # refuses now what it cannot take
    if needs_lengths(METHODS[method]) and count_tokens is None:
        raise UserError(f"{method} weighs completions by their tokens: give count_tokens")

    def reward_manager(reward_fns: Any, algo_config: Any) -> "VectorRewardManager":
        summing = managers.SequenceRewardManager(reward_fns, algo_config)
        objectives = names_of(summing.reward_fns)
        in_order = named_weights(weights, objectives)
        return VectorRewardManager(
            summing,
            objectives,
            in_order,
            make(method, in_order, **knobs),
            group_size=algo_config.num_generations,
            count_tokens=count_tokens,
            key=jax.random.key(seed),
        )

    name = f"dvaojax {method} weights={dict(weights)} knobs={knobs} seed={seed}"
    registry.register_reward_manager(name)(reward_manager)
    registry.register_advantage_estimator(name)(advantages_of)
    return {"reward_manager": name, "advantage_estimator": name}


def names_of(reward_functions: Sequence[Callable[..., Any]]) -> list[str]:
    """The objectives that reward functions are of.

    Raises:
        UserError: a function has no `__name__`, such as a `functools.partial`, or shares it.
    """
    for function in reward_functions:
        if not hasattr(function, "__name__"):
            raise UserError(f"a reward function without a __name__: {function!r}; give it one")
    names = [function.__name__ for function in reward_functions]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} reward functions are called {name!r}; metrics go by the name")
    return names


class SumsWithAdvantages(np.ndarray):
    """What Tunix's reward manager returns, `[B * G]`, with the advantages of what it summed.

    Attributes:
        advantages: `[B * G]` float32; None in arrays that were made from another one.
    """

    advantages: np.ndarray | None = None


def advantages_of(rewards: np.ndarray, num_generations: int) -> np.ndarray:
    """The advantage estimator that belongs to `VectorRewardManager`.

    Args:
        rewards: `[B * G]`, what the manager returned.
        num_generations: `G`, which the manager has from the same configuration.

    Returns:
        `[B * G]` float32.

    Raises:
        UserError: the rewards are another manager's.
    """
    del num_generations
    advantages = getattr(rewards, "advantages", None)
    if advantages is None:
        raise UserError("rewards without their vector: set the reward_manager that register names")
    return advantages


@functools.partial(jax.jit, static_argnames="aggregator")
def aggregate(
    aggregator: Aggregator,
    rewards: Array,
    weights: Array,
    mask: Array,
    state: State,
    key: Array,
    lengths: Array | None,
) -> tuple[Array, State, dict[str, Array]]:
    """One step of an aggregator, and what is logged of it.

    Args:
        aggregator: rewards to advantages.
        rewards: `[B, G, K]`.
        weights: `[K]`, for what is logged.
        mask: `[B, G, K]` bool, false where an objective does not apply.
        state: the aggregator's memory.
        key: a random key, consumed.
        lengths: `[B, G]` in tokens, or None.

    Returns:
        Advantages `[B, G]`, the next state, and by the names that a run of `dvaojax train` has for
        them `spread` and `effective_weight` `[K]` (`aggregators.Diagnostics`), `agreement`,
        `silent_groups` and `advantage_mean_square` `[]`.
    """
    advantages, state = aggregator.update(rewards, mask, state, key, lengths=lengths)
    seen = diagnostics(rewards, weights, mask=mask)
    logged = {
        "spread": seen.spread.value,
        "effective_weight": seen.effective_weight.value,
        "agreement": seen.mean_agreement.value,
        "silent_groups": seen.silent_groups.value,
        "advantage_mean_square": jnp.mean(jnp.square(advantages)),
    }
    return advantages, state, logged


class VectorRewardManager:
    """A reward manager that asks Tunix's, and aggregates the vectors before they are forgotten.

    Attributes:
        objectives: the names of the K reward functions, in their order.
        state: the memory of the aggregator, a pytree. Tunix's checkpoints do not hold it: save it
            beside them, and put it back before a run goes on.
    """

    def __init__(
        self,
        summing: Callable[..., dict[str, Any]],
        objectives: Sequence[str],
        weights: Array,
        aggregator: Aggregator,
        *,
        group_size: int,
        count_tokens: Callable[[str], int] | None,
        key: Array,
    ):
        """Puts the parts together; `register` does it for Tunix.

        Args:
            summing: Tunix's manager of the reward functions.
            objectives: their names.
            weights: `[K]`.
            aggregator: rewards to advantages.
            group_size: `G`.
            count_tokens: the tokens of a text, for aggregators that need lengths.
            key: a random key.
        """
        self.objectives = tuple(objectives)
        self.state = aggregator.init(len(self.objectives))
        self._summing = summing
        self._weights = weights
        self._aggregator = aggregator
        self._group_size = group_size
        self._count_tokens = count_tokens
        self._key = key

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], *, mode: str, **columns: Any
    ) -> dict[str, Any]:
        """The rewards of a batch as Tunix wants them.

        Args:
            prompts: `B * G` texts, `G` times each one after the other.
            completions: `B * G` texts.
            mode: "train", or "eval", in which nothing is remembered.
            columns: what else the reward functions are given.

        Returns:
            `rewards`, `SumsWithAdvantages`, and `log_metrics`: Tunix's, with `spread/OBJECTIVE`,
            `effective_weight/OBJECTIVE`, `agreement`, `silent_groups` and `advantage_mean_square`.

        Raises:
            UserError: the completions of a prompt do not stand together, or a reward is infinite.
        """
        _require_groups(prompts, self._group_size)
        summed = self._summing(prompts=prompts, completions=completions, mode=mode, **columns)
        single = self._single_rewards(summed["log_metrics"])
        vectors = np.stack(list(single.values()), axis=-1).astype(np.float32)
        rewards = vectors.reshape(-1, self._group_size, len(self.objectives))
        next_key, key = jax.random.split(self._key)
        advantages, state, seen = aggregate(
            self._aggregator,
            rewards,
            self._weights,
            ~np.isnan(rewards),
            self.state,
            key,
            self._lengths(completions),
        )
        if mode == "train":
            self.state, self._key = state, next_key
        sums = np.asarray(summed["rewards"]).view(SumsWithAdvantages)
        sums.advantages = np.asarray(advantages).reshape(-1)
        metrics = {
            **summed["log_metrics"],
            **{f"rewards/{name}": (values, np.nanmean) for name, values in single.items()},
            **{name: (value, np.mean) for name, value in self._by_objective(seen)},
        }
        return {"rewards": sums, "log_metrics": metrics}

    def _single_rewards(self, log_metrics: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Objective -> `[B * G]`, NaN where it does not apply; Tunix returns them to be logged."""
        single = {name: log_metrics[f"rewards/{name}"][0] for name in self.objectives}
        for name, values in single.items():
            if np.isinf(values).any():
                raise UserError(f"{name} gave an infinite reward; NaN says that it does not apply")
        return single

    def _lengths(self, completions: Sequence[str]) -> np.ndarray | None:
        """`[B, G]` in tokens, where the aggregator needs them."""
        if self._count_tokens is None:
            return None
        lengths = [self._count_tokens(text) for text in completions]
        return np.asarray(lengths, np.int32).reshape(-1, self._group_size)

    def _by_objective(self, seen: Mapping[str, Array]) -> Iterator[tuple[str, np.ndarray]]:
        """Scalars by name, those `[K]` as `NAME/OBJECTIVE`."""
        for name, value in jax.device_get(seen).items():
            if np.ndim(value) == 0:
                yield name, value
            else:
                yield from ((f"{name}/{o}", v) for o, v in zip(self.objectives, value, strict=True))


def _require_groups(prompts: Sequence[str], group_size: int) -> None:
    """Raise `UserError` unless each prompt stands `group_size` times in a row."""
    together = all(prompt == prompts[i - i % group_size] for i, prompt in enumerate(prompts))
    if len(prompts) % group_size or not together:
        raise UserError(f"{len(prompts)} completions are not groups of {group_size} of one prompt")
