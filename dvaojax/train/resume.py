"""Where a resumed run continues: the newest checkpoint that is whole, or a chosen one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from dvaojax import files
from dvaojax.config import Config
from dvaojax.errors import UserError
from dvaojax.run.description import config_to_json, describe_start
from dvaojax.run.directory import RunDirectory
from dvaojax.run.saved_checkpoints import DamagedCheckpoint, SavedCheckpoints
from dvaojax.train import hosts
from dvaojax.train.program import Program
from dvaojax.train.progress import TrainingProgress, checkpoint_shapes


def restore_progress(
    config: Config,
    program: Program,
    directory: RunDirectory,
    *,
    from_step: int | None = None,
    say: Callable[[str], None],
) -> TrainingProgress | None:
    """Restores a checkpoint; afterwards the directory has nothing of later steps.

    Damaged checkpoints are renamed to `STEP.damaged`, later ones are deleted, and later rows are
    removed: the run writes all of it again. Nothing changes before the state was restored.

    Args:
        config: of the run.
        program: of the run.
        directory: of the run, whose lock the first process holds.
        from_step: of the checkpoint; None for the newest that is whole.
        say: prints a line.

    Returns:
        None if the run was stopped before its first checkpoint, and thus before its first row.

    Raises:
        UserError: no checkpoint is whole; `from_step` was not saved or is damaged; there are rows,
            but no checkpoint; or a row cannot be read.
    """
    rows = hosts.together("reading rows", lambda: _count_rows(directory))
    if not directory.checkpoints.is_dir() or not SavedCheckpoints(directory.checkpoints).steps:
        _check_nothing_lost(directory.address, rows, from_step)
        return None
    saved = SavedCheckpoints(directory.checkpoints)
    progress, damaged = _restore_first_whole(config, program, saved, from_step)
    hosts.together(
        f"going back to step {progress.step}",
        lambda: _go_back(directory, saved, progress.step, damaged, say),
    )
    return progress


def _count_rows(directory: RunDirectory) -> int:
    """The number of rows of metrics and samples, all of which can be read."""
    paths = [path for path in (directory.metrics, directory.samples) if path.exists()]
    return sum(len(files.read_json_lines(path)) for path in paths)


def _check_nothing_lost(path: Path | epath.Path, rows: int, from_step: int | None) -> None:
    """A run without a checkpoint starts again; it is refused if it had come further."""
    if from_step is not None:
        raise UserError(f"{path} has no checkpoint, so it cannot be resumed from step {from_step}")
    if rows:
        raise UserError(
            f"{path} has no checkpoint, but {rows} rows of metrics and samples that --resume would "
            "lose: restore its checkpoints, or use --overwrite to delete the run and begin anew"
        )


def _restore_first_whole(
    config: Config, program: Program, saved: SavedCheckpoints, from_step: int | None
) -> tuple[TrainingProgress, dict[int, str]]:
    """The progress at the newest whole step, and step -> damage of those that were passed over."""
    shapes = checkpoint_shapes(config, program)
    steps = sorted(saved.steps, reverse=True)
    if from_step is not None:
        steps = [saved.existing_step(from_step)]
    damaged: dict[int, str] = {}
    for step in steps:
        damage, restored = _damage(saved, step), None
        if not _any(damage is not None):
            try:
                restored = TrainingProgress.from_checkpoint(*saved.restore(shapes, step=step))
            except DamagedCheckpoint as error:
                damage = error.reason
            if not _any(restored is None) and restored is not None:
                return restored, damaged
        damaged[step] = damage or "see the output of the other processes"
    raise UserError(_no_whole_checkpoint(saved, damaged, from_step))


def _damage(saved: SavedCheckpoints, step: int) -> str | None:
    """The first process reads the files for all of them."""
    return saved.find_damage(step) if hosts.is_first() else None


def _any(value: bool) -> bool:
    """Whether the value is true in one of the processes."""
    return bool(hosts.gather(np.int32(value)).any())


def _no_whole_checkpoint(
    saved: SavedCheckpoints, damaged: dict[int, str], from_step: int | None
) -> str:
    listed = "; ".join(f"step {step}: {damage}" for step, damage in damaged.items())
    if from_step is None:
        return f"no checkpoint of the run is whole ({listed}): --overwrite begins it anew"
    others = [step for step in saved.steps if step != from_step]
    return f"the checkpoint is damaged ({listed}); other steps saved: {others or 'none'}"


def _go_back(
    directory: RunDirectory,
    saved: SavedCheckpoints,
    step: int,
    damaged: dict[int, str],
    say: Callable[[str], None],
) -> None:
    """Removes everything later than a step; the checkpoints first.

    If a kill interrupts this, the next resume finds no checkpoint whose rows were removed.
    """
    if not hosts.is_first():
        return
    earlier = {other: saved.find_small_damage(other) for other in saved.steps if other < step}
    for other, damage in (damaged | earlier).items():
        if damage is None:
            continue
        aside = saved.set_aside(other)
        say(
            f"checkpoint of step {other} is damaged ({damage}) and was renamed to {aside.name}; "
            f"the run continues after step {step}"
        )
    lost = _missing_rows(directory.metrics, step)
    if lost:
        say(
            f"{directory.address / files.METRICS} lacks the rows of {lost} of the {step} steps "
            f"before the checkpoint, which are lost; the run continues after step {step}"
        )
    saved.discard_after(step)
    directory.summary.unlink(missing_ok=True)  # the end of the run writes it again
    for path in (directory.metrics, directory.samples):
        rows = files.JsonLines(path)
        rows.truncate_after(step)
        rows.close()


def _missing_rows(metrics: Path, step: int) -> int:
    """The number of steps up to a step that have no row, though rows precede their checkpoint."""
    rows = files.read_json_lines(metrics) if metrics.exists() else []
    return len(set(range(1, step + 1)) - {row.get("step") for row in rows})


def other_devices(path: Path, config: Config) -> str | None:
    """A line about numbers that may differ from here on; None on the devices and mesh of before.

    Args:
        path: of the run's directory, before this start is recorded in it.
        config: of this start.
    """
    recorded = files.read_json(path / files.CONFIG)
    last = recorded["starts"][-1:]
    if not last or not isinstance(last[0], dict) or "devices" not in last[0]:
        return None
    before = _devices(last[0]["devices"], recorded["config"].get("mesh", {}))
    now = _devices(describe_start()["devices"], config_to_json(config)["mesh"])
    if before == now:
        return None
    return (
        f"the run continues on {now}, before on {before}: sums are taken in another order, so that "
        "numbers may differ in the last bits from here on"
    )


def _devices(devices: Mapping[str, Any], mesh: Mapping[str, Any]) -> str:
    axes = " x ".join(f"{name}={size}" for name, size in mesh.items() if size != 1)
    return (
        f"{devices.get('count')} x {devices.get('kind')} of {devices.get('processes')} process(es) "
        f"with the mesh {axes}"
    )
