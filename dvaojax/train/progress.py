"""Progress of a training run, and its form in a checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
from jax.sharding import Mesh

from dvaojax import sharding
from dvaojax.config import Config
from dvaojax.learning.train_step import TrainState
from dvaojax.models import Params
from dvaojax.run.saved_checkpoints import DamagedCheckpoint, SavedCheckpoints
from dvaojax.train import hosts
from dvaojax.train.allocation_state import DataState, initial_data_state
from dvaojax.train.best import BestEvaluation
from dvaojax.train.collect import StepRollout
from dvaojax.train.program import Program
from dvaojax.types import Rollout


@dataclasses.dataclass(frozen=True)
class TrainingProgress:
    """Everything that changes during a run; all of it is in every checkpoint.

    Attributes:
        state: parameters, optimiser, aggregator and random key.
        reference: parameters of the reference policy; None where none is used.
        data: position in the prompt stream, and statistics of the problems.
        in_flight: the completions of the next `pipeline_depth` steps, sampled with the parameters
            of as many steps ago. They are saved instead of being sampled again: a batch of tokens
            is smaller than the parameters that sampled it.
        step: steps done.
        before: the evaluation before the first step, as in `summary.json`.
        seconds: wall time of the run so far, including earlier starts.
        best: the best evaluation so far; None if there are none during the run.
    """

    state: TrainState
    reference: Params | None
    data: DataState
    in_flight: tuple[StepRollout, ...]
    step: int
    before: Mapping[str, Any]
    seconds: float
    best: BestEvaluation | None = None

    def to_arrays(self, mesh: Mesh) -> dict[str, Any]:
        """The arrays to save, with the structure of `checkpoint_shapes`."""
        return {
            "state": self.state,
            "reference": self.reference,
            "statistics": hosts.place(self.data.statistics, sharding.named(mesh)),
            "chosen": hosts.place(self.data.chosen, sharding.named(mesh)),
            **self._hints(mesh),
            "in_flight": tuple(sampled.rollout for sampled in self.in_flight),
        }

    def _hints(self, mesh: Mesh) -> dict[str, Any]:
        """The state of hints, in runs that give some."""
        levels = self.data.failed_levels
        if levels is None:
            return {}
        return {"failed_levels": hosts.place(levels, sharding.named(mesh))}

    def to_record(self) -> dict[str, Any]:
        """Everything else to save, as JSON."""
        return {
            "step": self.step,
            "before": self.before,
            "best": self.best and self.best._asdict(),
            "seconds": self.seconds,
            "position": self.data.position,
            "in_flight": [sampled.first for sampled in self.in_flight],
        }

    @classmethod
    def from_checkpoint(cls, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Self:
        """The inverse of `to_arrays` and `to_record`.

        Raises:
            DamagedCheckpoint: the record is not one that `to_record` returned.
        """
        _check_record(record, len(arrays["in_flight"]))
        best = record.get("best")  # earlier versions had none
        return cls(
            state=arrays["state"],
            reference=arrays["reference"],
            data=DataState(
                record["position"],
                hosts.whole(arrays["statistics"]),
                hosts.whole(arrays["chosen"]),
                hosts.whole(arrays.get("failed_levels")),
            ),
            in_flight=tuple(map(StepRollout, record["in_flight"], arrays["in_flight"])),
            step=record["step"],
            before=record["before"],
            best=best and BestEvaluation(**best),
            seconds=record["seconds"],
        )


def _check_record(record: Mapping[str, Any], depth: int) -> None:
    """Raises a DamagedCheckpoint if a value has another type; `depth` is that of the pipeline."""
    step, seconds, firsts = (record.get(name) for name in ("step", "seconds", "in_flight"))
    if not (
        _is_count(step)
        and _is_count(record.get("position"))
        and isinstance(seconds, int | float)
        and isinstance(record.get("before"), dict)
        and _is_best(record.get("best"))
        and isinstance(firsts, list)
        and len(firsts) == depth
        and all(map(_is_count, firsts))
    ):
        raise DamagedCheckpoint("the record of the checkpoint is damaged", "its record is damaged")


def _is_best(value: object) -> bool:
    """Whether a value is that of `best`, which earlier versions did not save."""
    return value is None or (
        isinstance(value, dict)
        and value.keys() == set(BestEvaluation._fields)
        and _is_count(value["step"])
        and _is_count(value["waited"])
        and isinstance(value["weighted_reward"], int | float | None)
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def restore_params(checkpoints: SavedCheckpoints, shapes: Params, *, step: int) -> Params:
    """The policy's parameters in a checkpoint, in the shardings of `shapes`; the rest is not read.

    Raises:
        UserError: there is no such checkpoint, or its parameters have other shapes.
    """
    template = {"state": {"learner": {"params": shapes}}}
    return checkpoints.restore_part(template, step=step)["state"]["learner"]["params"]


def checkpoint_shapes(config: Config, program: Program) -> dict[str, Any]:
    """The arrays of the run's checkpoints, as shapes with shardings."""
    shapes = program.state_shapes
    reference = shapes.learner.params if config.loss.needs_reference else None
    in_flight = (_rollout_shapes(config, program),) * config.pipeline_depth
    replicated = sharding.named(program.mesh)
    _, *tables = initial_data_state(config)
    statistics, chosen, failed_levels = jax.tree.map(
        lambda table: jax.ShapeDtypeStruct(table.shape, table.dtype, sharding=replicated), tables
    )
    return {
        "state": shapes,
        "reference": reference,
        "statistics": statistics,
        "chosen": chosen,
        **({} if failed_levels is None else {"failed_levels": failed_levels}),
        "in_flight": in_flight,
    }


def _rollout_shapes(config: Config, program: Program) -> Rollout:
    """The completions of one step, as shapes with shardings."""
    groups = (config.prompts_per_step, config.largest_group)

    def array(shape: tuple[int, ...], dtype: str) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=program.by_group)

    tokens = (*groups, config.max_new_tokens)
    return Rollout(
        array(tokens, "int32"),
        array(tokens, "bool"),
        array(tokens, "float32"),
        array(groups, "bool"),
    )
