"""All aggregators inside the `GRPOTrainer` of Hugging Face's TRL.

    from dvaojax.integrations.trl import AggregatedGRPOTrainer

    config = GRPOConfig(output_dir="out", num_generations=8, reward_weights=[1.0, 0.5])
    trainer = AggregatedGRPOTrainer(
        "Qwen/Qwen3-0.6B", reward_funcs=[accuracy, brevity], args=config, train_dataset=dataset,
        aggregator="dvao", knobs={"ddof": 1},
    )
    trainer.train()

TRL adds the weighted rewards of a completion, subtracts the mean of its group, and divides by a
deviation. This class calls TRL's own code for generation, rewards, logging and the loss, and
replaces only the advantages: by those of the aggregator, from the vectors of all rewards of all
processes. They reach the loss as they are, also if they do not add up to zero in a group.

The README next to this module describes weights, missing rewards, states and refused settings. Only
`AggregatedGRPOTrainer` imports TRL; it is in the extra `trl`.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dvaojax.aggregators import State, find, make
from dvaojax.errors import UserError, import_extra
from dvaojax.integrations.measured import aggregate, by_objective, require_no_norms

STATE_FILE = "dvaojax_aggregator.npz"
"""The aggregator's state in a checkpoint of TRL."""

_OVERRIDDEN = (
    "_calculate_rewards",
    "_generate_and_score_completions",
    "_save_checkpoint",
    "_load_optimizer_and_scheduler",
)


def __getattr__(name: str) -> type:
    """Creates `AggregatedGRPOTrainer` on first use, because its base class is TRL's.

    Raises:
        UserError: TRL is not installed, or is a version without the overridden methods.
    """
    if name != "AggregatedGRPOTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = import_extra("trl", extra="trl").GRPOTrainer
    lacking = [method for method in _OVERRIDDEN if not hasattr(base, method)]
    if lacking:
        raise UserError(
            f"this version of TRL has no {lacking[0]}: pip install '.[trl]' in the checkout "
            "installs one that is supported"
        )
    members = {"__module__": __name__, "__doc__": AggregatedAdvantages.__doc__}
    globals()[name] = type(name, (AggregatedAdvantages, base), members)
    return globals()[name]


class AggregatedAdvantages:
    """Advantages of an aggregator for TRL's `GRPOTrainer`, in front of it among the base classes.

    `AggregatedGRPOTrainer` is this class with TRL's; write
    `class MyTrainer(AggregatedAdvantages, GRPOTrainer)` for a `GRPOTrainer` of your own.

    Attributes:
        aggregator_state: state of the aggregator, a pytree of arrays; `()` without state.
    """

    # Provided by TRL's trainer.
    accelerator: Any
    args: Any
    model: Any
    state: Any
    reward_func_names: Any
    reward_weights: Any
    num_generations: int
    num_generations_eval: int
    _metrics: Any
    _logs: Any

    def __init__(
        self,
        *arguments: Any,
        aggregator: str = "dvao",
        knobs: Mapping[str, Any] | None = None,
        seed: int = 0,
        **settings: Any,
    ):
        """Creates TRL's trainer and the aggregator.

        Args:
            arguments: of TRL's trainer.
            aggregator: a key of `aggregators.METHODS`, or a plug-in as in `aggregators.find`.
            knobs: the method's keyword-only arguments, such as `ddof`. Values per objective are in
                the order of the reward functions.
            seed: of the random key of randomised methods.
            settings: further arguments of TRL's trainer.

        Raises:
            UserError: there is no such method or knob, a weight is negative, or TRL's settings
                contain another aggregation.
        """
        find(aggregator)  # before the model is loaded
        super().__init__(*arguments, **settings)
        _check_settings(self.args)
        weights = self.reward_weights.tolist()
        for name, weight in zip(self.reward_func_names, weights, strict=True):
            if not 0.0 <= weight < float("inf"):
                raise UserError(
                    f"reward_weights: {weight} of {name} is not a finite number of at least 0; to "
                    "reward the opposite, negate the reward"
                )
        with _on_cpu():
            self._weights = jnp.asarray(weights, jnp.float32)
            self._aggregator = make(aggregator, self._weights, **(knobs or {}))
            require_no_norms(aggregator, self._aggregator)
            self.aggregator_state: State = self._aggregator.init(len(weights))
            self._aggregator_key = jax.random.key(seed)
        self._method = aggregator

    def _trl_methods(self) -> Any:
        """TRL's methods, also those that are replaced here."""
        return super()

    def _calculate_rewards(self, *arguments: Any, **named: Any) -> Any:
        """TRL's rewards `[N, K]` of all processes, which are kept for the advantages."""
        rewards = self._trl_methods()._calculate_rewards(*arguments, **named)
        self._vectors = rewards.detach().float().cpu().numpy()
        for name, column in zip(self.reward_func_names, self._vectors.T, strict=True):
            if np.isinf(column).any():
                raise UserError(f"{name} returned an infinite reward: return None if it fails")
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """TRL's batch with the advantages of the aggregator."""
        batch = self._trl_methods()._generate_and_score_completions(inputs)
        own = batch["advantages"]
        tokens = batch["completion_mask"] * batch.get("tool_mask", 1)
        lengths = self.accelerator.gather(tokens.sum(dim=1)).cpu().numpy()
        advantages = self._advantages(lengths)
        first = self.accelerator.process_index * len(own)
        batch["advantages"] = own.new_tensor(advantages[first : first + len(own)])
        logged = self._logs["advantages"]
        for _ in range(min(len(logged), len(advantages))):
            logged.pop()  # TRL's
        logged.extend(advantages.tolist())
        return batch

    def _advantages(self, lengths: np.ndarray) -> np.ndarray:
        """`[N]` of all processes; takes a step of the aggregator in training.

        Args:
            lengths: `[N]` tokens.
        """
        mode = "train" if self.model.training else "eval"
        group = self.num_generations if mode == "train" else self.num_generations_eval
        rewards = self._vectors.reshape(-1, group, self._vectors.shape[-1])
        with _on_cpu():
            next_key, key = jax.random.split(self._aggregator_key)
            advantages, state, measured = aggregate(
                self._aggregator,
                np.nan_to_num(rewards, nan=0.0),
                self._weights,
                ~np.isnan(rewards),
                self.aggregator_state,
                key,
                lengths.astype(np.float32).reshape(-1, group),
            )
        if mode == "train":
            self.aggregator_state, self._aggregator_key = state, next_key
        for name, value in by_objective(measured, self.reward_func_names):
            self._metrics[mode][name].append(float(value))
        return np.asarray(advantages).reshape(-1)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves TRL's checkpoint, and the aggregator's state in it."""
        self._trl_methods()._save_checkpoint(model, trial)
        if self.args.should_save:
            parent = self._trl_methods()._get_output_dir(trial=trial)
            self._write_state(Path(parent) / f"checkpoint-{self.state.global_step}" / STATE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Restores what TRL restores, and the aggregator's state."""
        self._trl_methods()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._read_state(Path(checkpoint) / STATE_FILE)

    def _write_state(self, path: Path) -> None:
        leaves = jax.tree.leaves(self.aggregator_state)
        key = np.asarray(jax.random.key_data(self._aggregator_key))
        arrays = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        content = io.BytesIO()
        named: dict[str, Any] = {"method": np.asarray(self._method), "key": key, **arrays}
        np.savez(content, **named)
        path.write_bytes(content.getvalue())

    def _read_state(self, path: Path) -> None:
        """Restores the state.

        Raises:
            UserError: the file does not exist, is damaged, or is that of another method.
        """
        leaves, structure = jax.tree.flatten(self.aggregator_state)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as saved:
                method, key = str(saved["method"]), saved["key"]
                arrays = [saved[f"leaf_{i}"] for i in range(len(leaves))]
        except FileNotFoundError as error:
            raise UserError(
                f"{path} does not exist: the checkpoint was saved by another trainer, and lacks "
                f"the state of {self._method}"
            ) from error
        except Exception as error:  # a damaged archive raises errors of many kinds
            raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
        if method != self._method or shapes != [(a.shape, a.dtype) for a in arrays]:
            raise UserError(
                f"{path} has the state of {method}, and not that of {self._method} for these "
                "rewards: resume with the same method and reward functions"
            )
        with _on_cpu():
            self.aggregator_state = jax.tree.unflatten(structure, map(jnp.asarray, arrays))
            self._aggregator_key = jax.random.wrap_key_data(jnp.asarray(key))


def _check_settings(args: Any) -> None:
    """Raises a `UserError` for settings of TRL whose result would be replaced."""
    for name, allowed in (
        ("scale_rewards", ("group", "none")),
        ("multi_objective_aggregation", ("sum_then_normalize",)),
    ):
        value = getattr(args, name)
        if value not in allowed:
            raise UserError(
                f"{name}={value!r} has no effect with an aggregator: leave it at {allowed[0]!r}, "
                "and choose the method with aggregator="
            )


def _on_cpu() -> Any:
    return jax.default_device(jax.local_devices(backend="cpu")[0])
