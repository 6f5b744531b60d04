"""Whose completions `dvaojax evaluate` judges: a run's policy, or a published model."""

import argparse
import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from dvaojax import files, hub
from dvaojax.cli.recorded import recorded_config
from dvaojax.config import Config, make_aggregator, overrides
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError, nearest
from dvaojax.evaluation.presets import PRESETS
from dvaojax.models import Params, pretrained
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.run.directory import RunDirectory
from dvaojax.tasks import task_class
from dvaojax.train.program import make_program
from dvaojax.train.session import MERIT, checkpoint_shapes
from dvaojax.types import Task, Tokenizer

# Groups of settings that say how something is measured, not what was trained.
_MAY_BE_SET = ("evaluation", "mesh", "rewards", "task")

# Where no training says how long completions may be: DVAO's limit, in tokens.
_MAX_NEW_TOKENS = 8192


@dataclasses.dataclass(frozen=True)
class Subject:
    """A policy, and how it is to be evaluated.

    Attributes:
        config: task, model, evaluation, mesh, and the seed that completions are drawn from.
        title: what to call the policy in a sentence.
        name: what to call it in the name of a directory.
        identity: tells its parameters from others, as JSON.
        home: where its evaluations are kept.
        load: brings the parameters onto the devices of a mesh.
    """

    config: Config
    title: str
    name: str
    identity: Mapping[str, Any]
    home: Path
    load: Callable[[Mesh], Params]


def find(arguments: argparse.Namespace) -> Subject:
    """The policy that the command line names, with the settings it makes.

    Raises:
        UserError: there is none, or a setting cannot be made.
    """
    return _of_published(arguments) if _is_published(arguments.policy) else _of_run(arguments)


def _is_published(path: Path) -> bool:
    """Whether a path is a published model's directory or repository, and not a run's.

    A run's `config.json` has other keys. What is not there is a repository, unless it would stand
    in a directory that is: then it is more likely a run misspelt.
    """
    file = path / files.CONFIG
    if file.is_file():
        description = files.read_json(file)
        return isinstance(description, dict) and "model_type" in description
    return not path.exists() and not path.parent.exists() and len(path.parts) == 2


def _of_published(arguments: argparse.Namespace) -> Subject:
    """A published model on a task that is made for its tokenizer."""
    path = str(arguments.policy)
    if arguments.task is None:
        raise UserError(f"{path} is a published model: say with --task what to evaluate it on")
    for option, given in (
        ("--step", arguments.step),
        ("--best", arguments.best or None),
        ("--experiment", arguments.experiment),
    ):
        if given is not None:
            raise UserError(f"{option} belongs to a run, and {path} is a published model")
    tokenizer = PretrainedTokenizer(path)
    # Half precision is what models are published in, and what the sampler reads anyway.
    model = pretrained.model_config(path, param_dtype="bfloat16")
    config = Config(
        model=model, task=_make_task(arguments.task, tokenizer), max_new_tokens=_MAX_NEW_TOKENS
    )
    config = _with_settings(config, tokenizer, arguments, more=("model",))
    pretrained.check(path, config.model)
    weights = sorted(hub.local_directory(path, hub.WEIGHT_FILES).glob("*.safetensors"))
    described = {file.name: [(s := file.stat()).st_size, s.st_mtime_ns] for file in weights}
    return Subject(
        config=config,
        title=path,
        name=Path(path).name,
        identity={"published": path, "weights": described},
        home=Path("evaluations"),
        load=lambda mesh: pretrained.load(path, config.model, mesh=mesh),
    )


def _of_run(arguments: argparse.Namespace) -> Subject:
    """A run's policy on its own task, or on another one with the same tokenizer."""
    directory = RunDirectory(arguments.policy)
    recorded = recorded_config(directory.path, arguments.experiment)
    config = _with_settings(recorded, recorded.task.tokenizer, arguments)
    trained = dataclasses.replace(recorded, mesh=config.mesh)
    with Checkpoints.to_read(directory.checkpoints, best_metric=MERIT) as checkpoints:
        step = checkpoints.best_step if arguments.best else arguments.step
        step = checkpoints.existing_step(step)
    started = files.read_json(directory.config)["starts"][0]["time"]

    def load(mesh: Mesh) -> Params:
        program = make_program(trained, make_aggregator(trained), devices=list(mesh.devices.flat))
        with Checkpoints.to_read(directory.checkpoints) as checkpoints:
            saved, _ = checkpoints.restore(checkpoint_shapes(trained, program), step=step)
        return saved["state"].learner.params

    return Subject(
        config=config,
        title=f"{directory.path}, step {step}",
        name=f"step{step}",
        identity={"run": recorded.name, "started": started, "step": step},
        home=directory.evaluations,
        load=load,
    )


def _with_settings(
    config: Config,
    tokenizer: Tokenizer,
    arguments: argparse.Namespace,
    *,
    more: Sequence[str] = (),
) -> Config:
    """The configuration with the command line's task, preset, samples and settings.

    Args:
        config: of the policy.
        tokenizer: that the policy knows.
        arguments: of the command line.
        more: groups that may be set besides the usual ones.
    """
    allowed = [*_MAY_BE_SET, *more]
    for change in arguments.changes:
        key = change.partition("=")[0]
        if key.partition(".")[0] not in allowed:
            groups = ", ".join(f"{group}.*" for group in allowed)
            raise UserError(f"{key} is part of what was trained; evaluate can set {groups}")
    if arguments.task is not None:
        # Of another task, all problems; how many of its own a run takes was chosen for that one.
        evaluation = dataclasses.replace(config.evaluation, num_prompts=0)
        task = _make_task(arguments.task, tokenizer)
        config = dataclasses.replace(config, task=task, evaluation=evaluation)
    if arguments.preset is not None:
        config = _with_preset(config, arguments.preset)
    samples = [] if arguments.samples is None else [f"evaluation.samples={arguments.samples}"]
    config = overrides.apply(config, [*arguments.changes, *samples])
    if config.task.tokenizer != tokenizer:
        raise UserError(f"task {config.task.name} has another tokenizer than the policy knows")
    return config


def _with_preset(config: Config, name: str) -> Config:
    """The configuration with a paper's evaluation, on all problems."""
    if name not in PRESETS:
        hint = nearest(name, PRESETS)
        raise UserError(f"unknown preset {name!r}; did you mean {hint!r}? {', '.join(PRESETS)}")
    preset = PRESETS[name]
    evaluation = dataclasses.replace(
        config.evaluation,
        num_prompts=0,
        samples=preset.samples,
        sampling=preset.sampling,
        max_new_tokens=preset.max_new_tokens or config.evaluation.max_new_tokens,
    )
    return dataclasses.replace(config, evaluation=evaluation)


def _make_task(name: str, tokenizer: Tokenizer) -> Task:
    """The task of that name as it is by default, with the policy's tokenizer where it takes one."""
    cls = task_class(name)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    given: dict[str, Any] = {}
    nothing = dataclasses.MISSING
    for field in fields.values():
        if field.name != "tokenizer" and field.default is field.default_factory is nothing:
            raise UserError(f"task {name} cannot be made by name: nothing says its {field.name}")
    if "tokenizer" in fields:
        kind = typing.get_type_hints(cls)["tokenizer"]
        if not isinstance(tokenizer, kind):
            raise UserError(
                f"task {name} takes a {kind.__name__}; the policy has a {type(tokenizer).__name__}"
            )
        given["tokenizer"] = tokenizer
    return cls(**given)
