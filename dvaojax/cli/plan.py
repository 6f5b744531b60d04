"""`dvaojax plan`: whether a run fits a TPU slice, and what it takes there, without a TPU."""

import argparse
import dataclasses
from pathlib import Path

from rich.console import Console

from dvaojax import sharding
from dvaojax.config import Config, EvaluationConfig, overrides, validate
from dvaojax.errors import UserError, nearest
from dvaojax.files import write_json
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.plan import compilation
from dvaojax.plan.chips import Slice, parse_slice
from dvaojax.plan.job import Job
from dvaojax.plan.planning import choose, compile_plan, find_fitting
from dvaojax.plan.report import render, to_json
from dvaojax.plan.sizes import with_sizes_alone
from dvaojax.sharding import MeshConfig

LAYOUTS_TRIED = 8  # one that does not fit is known within seconds


def run(arguments: argparse.Namespace) -> int:
    """Plans what the arguments describe; returns the exit code."""
    compilation.stand_alone()
    slice = parse_slice(arguments.topology)
    config = _config(arguments)
    validate(config)
    _check_folder(arguments.json)
    length = arguments.prompt_length or config.task.max_prompt_length
    mesh_is_free = config.mesh == MeshConfig()
    config = dataclasses.replace(config, mesh=_mesh(config.mesh, slice))
    devices = compilation.describe(slice)
    set_by_hand = {change.partition("=")[0] for change in arguments.changes}
    job = choose(
        Job(config, length, slice),
        mesh_is_free=mesh_is_free,
        micro_batches_are_free=arguments.experiment is None
        and "learning.micro_batches" not in set_by_hand,
    )
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    plan = compile_plan(job, devices, notes.print, effort=arguments.effort)
    fitting = None
    if not plan.fits:
        fitting = find_fitting(job, devices, notes.print, tries=LAYOUTS_TRIED)
    steps = arguments.steps or (None if arguments.experiment is None else config.num_steps)
    if arguments.json is not None:
        write_json(arguments.json, to_json(plan, fitting, steps=steps))
    Console(highlight=False, soft_wrap=True).print(render(plan, fitting, steps=steps))
    return 0


def _mesh(mesh: MeshConfig, slice: Slice) -> MeshConfig:
    """With every axis given."""
    try:
        return sharding.of_size(mesh, slice.num_chips)
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_folder(file: Path | None) -> None:
    """Whether the file can be written, before minutes of compilation."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise UserError(f"--json {file}: " + ("is a folder" if file.is_dir() else "no such folder"))


def _config(arguments: argparse.Namespace) -> Config:
    """The experiment's configuration, or that of nothing but a decoder and its sizes."""
    if arguments.experiment is not None:
        config = overrides.load_experiment(arguments.experiment)
        if not isinstance(config, Config):
            raise UserError(f"{arguments.experiment}: get_config() returned no Config")
    elif arguments.model is not None:
        config = Config(learning=LearningConfig(), warm_start=WarmStartConfig(num_steps=0))
    else:
        raise UserError(f"plan needs --model or --experiment; models are {', '.join(PRESETS)}")
    sizes = {
        "prompts_per_step": arguments.prompts,
        "group_size": arguments.group_size,
        "max_new_tokens": arguments.completion_length,
    }
    config = dataclasses.replace(
        config, **{name: size for name, size in sizes.items() if size is not None}
    )
    if arguments.model is not None:
        config = dataclasses.replace(config, model=_model(arguments.model))
    # Neither half of a step depends on it, and it need not divide over a mesh that is yet to come.
    evaluation = EvaluationConfig(num_prompts=config.prompts_per_step)
    # Every stage of a rollout is compiled anew; the last, in full width, is what needs most.
    config = dataclasses.replace(config, evaluation=evaluation, rollout_stages=1)
    return with_sizes_alone(overrides.apply(config, arguments.changes))


def _model(name: str):
    if name not in PRESETS:
        raise UserError(
            f"unknown model {name!r}: the nearest is {nearest(name, PRESETS)}; known are "
            f"{', '.join(PRESETS)}"
        )
    return PRESETS[name]
