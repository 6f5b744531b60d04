"""The policy that `dvaojax evaluate` measures, and the recorded configuration of a run."""

import argparse
import contextlib
import dataclasses
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh

from dvaojax import config as configuration
from dvaojax import files, hub, models, sharding
from dvaojax.config import Config, overrides
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError, suggest
from dvaojax.evaluation.presets import PRESETS
from dvaojax.models import Params, pretrained
from dvaojax.run import directory as run_directory
from dvaojax.run.bucket import Bucket
from dvaojax.run.directory import RunDirectory
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.tasks import task_class
from dvaojax.train.progress import restore_params
from dvaojax.train.session import BEST_METRIC
from dvaojax.types import Task, Tokenizer

# Settings of the measurement, as opposed to those of the training.
_SETTABLE = ("evaluation", "mesh", "rewards", "task")

# The limit of the DVAO paper, for models that were not trained here.
_MAX_NEW_TOKENS = 8192


@dataclasses.dataclass(frozen=True)
class PolicySource:
    """A policy with the configuration of its evaluation.

    Attributes:
        config: task, model, evaluation, mesh, and the seed of the completions.
        title: the policy's name in messages.
        name: the policy's name in directory names.
        identity: identifies the parameters, as JSON.
        home: parent directory of its evaluations.
        load: loads the parameters onto the devices of a mesh.
    """

    config: Config
    title: str
    name: str
    identity: Mapping[str, Any]
    home: Path | epath.Path
    load: Callable[[Mesh], Params]


@contextlib.contextmanager
def found_policy(arguments: argparse.Namespace) -> Iterator[PolicySource]:
    """The policy that the command line selects, with the command line's settings.

    Raises:
        UserError: there is no such policy, or a setting is invalid.
    """
    if _is_published(arguments.policy):
        yield _published_model(arguments)
        return
    with run_directory.read([arguments.policy]) as (directory,):
        yield _run_checkpoint(arguments, directory)


def recorded_config(run: Path, experiment: Path | None) -> Config:
    """The configuration that a run recorded.

    Args:
        run: its directory.
        experiment: the file that defines its task, if the task is not part of dvaojax.

    Raises:
        UserError: there is no run, or its configuration cannot be read.
    """
    classes = []
    if experiment is not None:
        loaded = overrides.load_experiment(experiment)
        classes = [type(getattr(loaded, "task", loaded))]
    return configuration.config_from_json(run_directory.read_config(run), classes=classes)


def _is_published(path: Path | epath.Path) -> bool:
    """Whether a path is a published model's directory or repository, as opposed to a run's.

    A run's `config.json` has other keys. A path that does not exist is a repository, unless its
    parent directory exists: then it is more likely a misspelt run.
    """
    if not isinstance(path, Path):
        content = Bucket(path).read(files.CONFIG) or b"null"
        with contextlib.suppress(ValueError):
            return _describes_model(json.loads(content))
        return False
    file = path / files.CONFIG
    if file.is_file():
        return _describes_model(files.read_json(file))
    return not path.exists() and not path.parent.exists() and len(path.parts) == 2


def _describes_model(content: Any) -> bool:
    """Whether the content of a `config.json` is that of a published model."""
    return isinstance(content, dict) and "model_type" in content


def _published_model(arguments: argparse.Namespace) -> PolicySource:
    """A published model, on a task built with its tokenizer."""
    path = str(arguments.policy)
    if arguments.task is None:
        raise UserError(f"{path} is a published model: choose its task with --task")
    for option, given in (
        ("--step", arguments.step),
        ("--best", arguments.best or None),
        ("--experiment", arguments.experiment),
    ):
        if given is not None:
            raise UserError(f"{option} applies to runs, and {path} is a published model")
    path = hub.resolve(path)
    tokenizer = PretrainedTokenizer(path)
    # Models are published in half precision, and the sampler computes in it.
    model = pretrained.model_config(path, param_dtype="bfloat16")
    config = Config(
        model=model, task=_make_task(arguments.task, tokenizer), max_new_tokens=_MAX_NEW_TOKENS
    )
    config = _with_settings(config, tokenizer, arguments, more=("model",))
    pretrained.check(path, config.model)
    described = {name: file.version for name, file in pretrained.weight_files(path).items()}
    return PolicySource(
        config=config,
        title=path,
        name=arguments.policy.name,
        identity={"published": path, "weights": described},
        home=Path("evaluations"),
        load=lambda mesh: pretrained.load(path, config.model, mesh=mesh),
    )


def _run_checkpoint(arguments: argparse.Namespace, directory: RunDirectory) -> PolicySource:
    """A run's policy, on its own task or on another one with the same tokenizer."""
    recorded = recorded_config(directory.path, arguments.experiment)
    config = _with_settings(recorded, recorded.task.tokenizer, arguments)
    _check_trusted(recorded, config)
    checkpoints = SavedCheckpoints(directory.checkpoints, best_metric=BEST_METRIC)
    step = checkpoints.existing_step(checkpoints.best_step if arguments.best else arguments.step)
    started = files.read_json(directory.config)["starts"][0]["time"]

    def load(mesh: Mesh) -> Params:
        # The parameters alone: the state of the aggregator may depend on a plug-in.
        return restore_params(checkpoints, _parameter_shapes(recorded, mesh), step=step)

    return PolicySource(
        config=config,
        title=f"{directory.address}, step {step}",
        name=f"step{step}",
        identity={"run": recorded.name, "started": started, "step": step},
        home=directory.address / files.EVALUATIONS,
        load=load,
    )


def _check_trusted(recorded: Config, config: Config) -> None:
    """Raises a UserError if the evaluation has problems that the run was steered by."""
    trusted = configuration.trusted_problems(recorded)
    if trusted:
        evaluated = configuration.evaluated_problems(
            config.task, num_prompts=config.evaluation.num_prompts
        )
        number = len(config.task.prompts("test")) - len(trusted)
        remedy = f"add --set evaluation.num_prompts={max(number, 1)}"
        configuration.check_disjoint(trusted, evaluated, remedy=remedy)


def _parameter_shapes(config: Config, mesh: Mesh) -> Params:
    """The parameters of the policy as shapes with shardings."""
    shapes = models.shapes(config.model)
    shardings = sharding.shardings(mesh, shapes, models.logical_axes)
    return jax.tree.map(
        lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings
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
        tokenizer: of the policy.
        arguments: of the command line.
        more: groups of settings that may be changed in addition to the usual ones.
    """
    allowed = [*_SETTABLE, *more]
    for change in arguments.changes:
        key = change.partition("=")[0]
        if key.partition(".")[0] not in allowed:
            groups = ", ".join(f"{group}.*" for group in allowed)
            raise UserError(f"{key} is a setting of the training; evaluate can set {groups}")
    if arguments.task is not None:
        # The number of problems in the configuration was chosen for the run's own task.
        evaluation = dataclasses.replace(config.evaluation, num_prompts=0)
        task = _make_task(arguments.task, tokenizer)
        config = dataclasses.replace(config, task=task, evaluation=evaluation)
    if arguments.preset is not None:
        config = _with_preset(config, arguments.preset)
    samples = [] if arguments.samples is None else [f"evaluation.samples={arguments.samples}"]
    config = overrides.apply(config, [*arguments.changes, *samples])
    if config.task.tokenizer != tokenizer:
        raise UserError(f"task {config.task.name} and the policy have different tokenizers")
    return config


def _with_preset(config: Config, name: str) -> Config:
    """The configuration with the evaluation of a paper, on all problems."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {suggest(name, PRESETS)} {', '.join(PRESETS)}")
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
    """The task of that name with its defaults, and with the policy's tokenizer if it has one."""
    cls = task_class(name)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    given: dict[str, Any] = {}
    nothing = dataclasses.MISSING
    for field in fields.values():
        if field.name != "tokenizer" and field.default is field.default_factory is nothing:
            raise UserError(
                f"task {name} cannot be selected by name: its field {field.name} has no default"
            )
    if "tokenizer" in fields:
        kind = typing.get_type_hints(cls)["tokenizer"]
        if not isinstance(tokenizer, kind):
            raise UserError(
                f"task {name} needs a {kind.__name__}; the policy has a {type(tokenizer).__name__}"
            )
        given["tokenizer"] = tokenizer
    return cls(**given)
