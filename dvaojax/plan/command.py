"""Implementation of `dvaojax plan`: from the command line's arguments to a printed plan."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from dvaojax import sharding
from dvaojax.config import Config, EvaluationConfig, overrides, validate
from dvaojax.errors import UserError, suggest, writing
from dvaojax.files import write_json
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.models.presets import PRESETS
from dvaojax.plan import described
from dvaojax.plan.chips import Slice, parse_slice
from dvaojax.plan.job import Job
from dvaojax.plan.planning import choose, compile_plan, find_fitting
from dvaojax.plan.report import OPERATIONS, render, to_json
from dvaojax.plan.sizes import with_sizes_only
from dvaojax.sharding import MeshConfig

_WIDTH = 180  # of the tables, for the longest lines of `--profile`
MAX_LAYOUTS = 8  # tried in the search; one that does not fit is rejected within seconds


def plan(arguments: argparse.Namespace) -> None:
    """Compiles the described run and prints its plan.

    Args:
        arguments: those of `dvaojax plan`, see `dvaojax plan --help`.

    Raises:
        UserError: the arguments are invalid, or libtpu cannot be used.
    """
    described.set_environment()
    slice = parse_slice(arguments.topology)
    config = _config(arguments)
    validate(config)
    _check_folder(arguments.json)
    keep = _writer(arguments.hlo)
    length = arguments.prompt_length or config.task.max_prompt_length
    mesh_is_free = config.mesh == MeshConfig()
    config = dataclasses.replace(config, mesh=_mesh(config.mesh, slice))
    devices = described.slice_devices(slice)
    changed_keys = {change.partition("=")[0] for change in arguments.changes}
    job = choose(
        Job(config, length, slice),
        mesh_is_free=mesh_is_free,
        micro_batches_are_free=arguments.experiment is None
        and "learning.micro_batches" not in changed_keys,
    )
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    for assumption in _assumptions(arguments, config, length):
        progress.print(assumption)
    requested = compile_plan(job, devices, progress.print, effort=arguments.effort, keep=keep)
    fitting = None
    if not requested.fits:
        fitting = find_fitting(job, devices, progress.print, tries=MAX_LAYOUTS)
    steps = arguments.steps or (None if arguments.experiment is None else config.num_steps)
    if arguments.json is not None:
        with writing(arguments.json):
            write_json(arguments.json, to_json(requested, fitting, steps=steps))
    text = render(requested, fitting, steps=steps, operations=OPERATIONS * arguments.profile)
    Console(highlight=False, soft_wrap=True, width=_WIDTH if arguments.profile else None).print(
        text
    )


def _writer(folder: Path | None) -> Callable[[str, str], None]:
    """Writes compiled programs to a folder, which is made before minutes of compilation."""
    if folder is None:
        return lambda name, text: None
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, text: str) -> None:
        with writing(folder / f"{name}.hlo"):
            (folder / f"{name}.hlo").write_text(text)

    return write


def _assumptions(arguments: argparse.Namespace, config: Config, length: int) -> list[str]:
    """One line with the sizes that the command line does not give, if there are any."""
    sizes = {
        "--prompts": (arguments.prompts, config.prompts_per_step),
        "--group-size": (arguments.group_size, config.group_size),
        "--prompt-length": (arguments.prompt_length, length),
        "--completion-length": (arguments.completion_length, config.max_new_tokens),
    }
    assumed = [f"{option} {size}" for option, (given, size) in sizes.items() if given is None]
    source = "defaults" if arguments.experiment is None else arguments.experiment
    return [f"not given, assumed from {source}: {' '.join(assumed)}"] if assumed else []


def _mesh(mesh: MeshConfig, slice: Slice) -> MeshConfig:
    """The mesh with the size of every axis given."""
    try:
        return sharding.resolve_sizes(mesh, slice.num_chips)
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_folder(file: Path | None) -> None:
    """Checks that the JSON file can be written, before minutes of compilation."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise UserError(f"--json {file}: " + ("is a folder" if file.is_dir() else "no such folder"))


def _config(arguments: argparse.Namespace) -> Config:
    """The experiment's configuration, or a default one for a decoder, with the given sizes."""
    if arguments.experiment is not None:
        config = overrides.load_experiment(arguments.experiment)
        if not isinstance(config, Config):
            raise UserError(f"{arguments.experiment}: get_config() did not return a Config")
    elif arguments.model is not None:
        _require_lengths(arguments)
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
    # A train step does not depend on the evaluation, whose prompts would have to divide over a
    # mesh that is not chosen yet.
    evaluation = EvaluationConfig(num_prompts=config.prompts_per_step)
    config = dataclasses.replace(config, evaluation=evaluation)
    return with_sizes_only(overrides.apply(config, arguments.changes))


def _require_lengths(arguments: argparse.Namespace) -> None:
    """Memory and time depend on the lengths above all, and no default would be right."""
    options = {
        "--prompt-length N": arguments.prompt_length,
        "--completion-length N": arguments.completion_length,
    }
    missing = [option for option, given in options.items() if given is None]
    if missing:
        raise UserError(
            f"plan --model also needs {' and '.join(missing)}, in tokens, such as "
            "--prompt-length 512 --completion-length 2048"
        )


def _model(name: str) -> ModelConfig:
    if name not in PRESETS:
        raise UserError(
            f"unknown model {suggest(name, PRESETS)} Known models: {', '.join(PRESETS)}"
        )
    return PRESETS[name]
