"""All aggregators inside the unmodified `GRPOLearner` of google-tunix.

    from dvaojax.integrations.tunix import register

    names = register("dvao", {"accuracy": 1.0, "brevity": 0.5})
    config = GRPOConfig(num_generations=8, **names)
    learner = GRPOLearner(cluster, config, reward_fns=[accuracy, brevity])

Tunix passes the result of a reward manager to an advantage estimator; both are looked up by name in
an open registry. Tunix's own manager returns the sum of the reward functions and drops the vector.
The manager registered here calls Tunix's manager, returns the same sums as an array with the
advantages of the vectors attached, and adds metrics of the objectives; the estimator extracts the
advantages. Nothing in Tunix is replaced, and other code sees unchanged sums.

Differences from `dvaojax train`:

- The batch of a method with batch statistics, such as `gdpo`, are the prompts that Tunix samples in
  one call, `rollout_micro_batch_size`. Set it to `mini_batch_size`.
- A stateful method takes one step per call in training, none in evaluations. Its state is
  `learner.reward_manager.state`, which is not part of Tunix's checkpoints.
- Tunix has no mask: a reward of NaN means that the objective does not apply.
- A manager receives the text of a completion, not its tokens: see `count_tokens`.

Only `register` imports Tunix; it is in the extra `tunix`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dvaojax.aggregators import Aggregator, find, make, named_weights, needs_lengths
from dvaojax.errors import UserError, import_extra
from dvaojax.integrations.measured import aggregate, by_objective, require_no_norms


def register(
    method: str,
    weights: Mapping[str, float],
    *,
    count_tokens: Callable[[str], int] | None = None,
    seed: int = 0,
    **knobs: Any,
) -> dict[str, str]:
    """Registers an aggregator with Tunix, under a name that includes all settings.

    Args:
        method: a key of `aggregators.METHODS`, or a plug-in as in `aggregators.find`.
        weights: `__name__` of a reward function -> weight, for every reward function of the
            learner, in any order.
        count_tokens: number of tokens of a text, for methods that weight by length
            (`reinforce_plus_plus`, `gdpo_token_weighted`). It does not include the stop token, and
            may differ from the number of sampled tokens, because the text is encoded again.
        seed: of the random key of randomised methods.
        knobs: the method's keyword-only arguments, such as `ddof`. Values per objective are in the
            order of the learner's reward functions.

    Returns:
        `reward_manager` and `advantage_estimator`, for `GRPOConfig`.

    Raises:
        UserError: Tunix is not installed, there is no such method or knob, or the method needs
            `count_tokens`. Raised by the learner if weights and reward functions do not match, or
            if a reward function has no name or the same name as another.
    """
    registry = import_extra("tunix.rl.function_registry", extra="tunix")
    managers = import_extra("tunix.rl.reward_manager", extra="tunix")
    # Raises errors in settings here, not in the learner.
    require_no_norms(method, make(method, jnp.asarray(list(weights.values())), **knobs))
    if needs_lengths(find(method)) and count_tokens is None:
        raise UserError(f"{method} weights completions by their length: pass count_tokens")

    def reward_manager(reward_fns: Any, algo_config: Any) -> "VectorRewardManager":
        summing = managers.SequenceRewardManager(reward_fns, algo_config)
        objectives = objective_names(summing.reward_fns)
        ordered_weights = named_weights(weights, objectives)
        return VectorRewardManager(
            summing,
            objectives,
            ordered_weights,
            make(method, ordered_weights, **knobs),
            group_size=algo_config.num_generations,
            count_tokens=count_tokens,
            key=jax.random.key(seed),
        )

    name = f"dvaojax {method} weights={dict(weights)} knobs={knobs} seed={seed}"
    registry.register_reward_manager(name)(reward_manager)
    registry.register_advantage_estimator(name)(extract_advantages)
    return {"reward_manager": name, "advantage_estimator": name}


def objective_names(reward_functions: Sequence[Callable[..., Any]]) -> list[str]:
    """The names of the reward functions, which are the names of the objectives.

    Raises:
        UserError: a function has no `__name__`, such as a `functools.partial`, or two have the
            same.
    """
    for function in reward_functions:
        if not hasattr(function, "__name__"):
            raise UserError(f"the reward function {function!r} has no __name__: set one")
    names = [function.__name__ for function in reward_functions]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} reward functions have the name {name!r}: rename them")
    return names


class SumsWithAdvantages(np.ndarray):
    """Summed rewards `[B * G]` as Tunix's reward manager returns them, with advantages attached.

    Attributes:
        advantages: `[B * G]` float32; None in arrays derived from this one.
    """

    advantages: np.ndarray | None = None


def extract_advantages(rewards: np.ndarray, num_generations: int) -> np.ndarray:
    """The advantage estimator for `VectorRewardManager`.

    Args:
        rewards: `[B * G]`, the result of the manager.
        num_generations: `G`, unused; the manager has it from the same configuration.

    Returns:
        `[B * G]` float32.

    Raises:
        UserError: the rewards are from another manager.
    """
    del num_generations
    advantages = getattr(rewards, "advantages", None)
    if advantages is None:
        raise UserError(
            "the rewards have no advantages attached: set the reward_manager returned by register"
        )
    return advantages


class VectorRewardManager:
    """A reward manager that calls Tunix's manager and aggregates the reward vectors.

    Attributes:
        objectives: the names of the `K` reward functions, in their order.
        state: the state of the aggregator, a pytree. It is not part of Tunix's checkpoints: save it
            with them, and restore it before a run is resumed.
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
        """Creates the manager; `register` does it for Tunix.

        Args:
            summing: Tunix's manager of the reward functions.
            objectives: their names.
            weights: `[K]`.
            aggregator: rewards to advantages.
            group_size: `G`.
            count_tokens: number of tokens of a text, for aggregators that need lengths.
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
        """The rewards of a batch in Tunix's format.

        Args:
            prompts: `B * G` texts, each repeated `G` times in a row.
            completions: `B * G` texts.
            mode: "train", or "eval", in which the state does not change.
            columns: further arguments of the reward functions.

        Returns:
            `rewards`, `SumsWithAdvantages`, and `log_metrics`: Tunix's, with `spread/OBJECTIVE`,
            `effective_weight/OBJECTIVE`, `agreement`, `zero_variance_groups` and
            `advantage_mean_square`.

        Raises:
            UserError: the completions of a prompt are not consecutive, or a reward is infinite.
        """
        _require_groups(prompts, self._group_size)
        summed = self._summing(prompts=prompts, completions=completions, mode=mode, **columns)
        single = self._single_rewards(summed["log_metrics"])
        vectors = np.stack(list(single.values()), axis=-1).astype(np.float32)
        rewards = vectors.reshape(-1, self._group_size, len(self.objectives))
        next_key, key = jax.random.split(self._key)
        advantages, state, measured = aggregate(
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
            **{name: (value, np.mean) for name, value in by_objective(measured, self.objectives)},
        }
        return {"rewards": sums, "log_metrics": metrics}

    def _single_rewards(self, log_metrics: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Objective -> `[B * G]`, NaN where it does not apply, from the metrics of Tunix."""
        single = {name: log_metrics[f"rewards/{name}"][0] for name in self.objectives}
        for name, values in single.items():
            if np.isinf(values).any():
                raise UserError(
                    f"{name} returned an infinite reward; return NaN if it does not apply"
                )
        return single

    def _lengths(self, completions: Sequence[str]) -> np.ndarray | None:
        """`[B, G]` in tokens; None without `count_tokens`."""
        if self._count_tokens is None:
            return None
        lengths = [self._count_tokens(text) for text in completions]
        return np.asarray(lengths, np.int32).reshape(-1, self._group_size)


def _require_groups(prompts: Sequence[str], group_size: int) -> None:
    """Raises a `UserError` unless each prompt is repeated `group_size` times in a row."""
    together = all(prompt == prompts[i - i % group_size] for i, prompt in enumerate(prompts))
    if len(prompts) % group_size or not together:
        raise UserError(
            f"{len(prompts)} completions are not groups of {group_size} with the same prompt"
        )
