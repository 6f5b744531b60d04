"""`dvaojax export`: a checkpoint of a run as a published model."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax

from dvaojax import files, models
from dvaojax.cli.recorded import recorded_config
from dvaojax.config import Config
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
from dvaojax.models import Params, pretrained
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.run.directory import RunDirectory
from dvaojax.train.session import MERIT


def run(arguments: argparse.Namespace) -> int:
    """Writes the checkpoint that the arguments name; returns the exit code.

    Raises:
        UserError: parameters of this type are not written, or the run or the directory will not do.
    """
    config, out = recorded_config(arguments.run, arguments.experiment), arguments.directory
    dtype = arguments.dtype or config.model.param_dtype
    if dtype not in pretrained.WRITTEN:
        raise UserError(
            f"--dtype: {dtype} parameters are written as {' or '.join(pretrained.WRITTEN)}"
        )
    description = _description(config, out)
    tokenizer = config.task.tokenizer
    with files.new_directory(out) as directory:
        step, params = _restore(config, arguments)
        written = pretrained.write(directory, params, config.model, description, dtype=dtype)
        if isinstance(tokenizer, PretrainedTokenizer):
            tokenizer.write(directory)
    count = sum(a.size for a in jax.tree.leaves(params))
    texts = "with its tokenizer"
    if not isinstance(tokenizer, PretrainedTokenizer):
        texts = f"without a tokenizer: {type(tokenizer).__name__} has no files"
    print(
        f"{arguments.run}, step {step}: {count:,} parameters in {dtype}, {len(written)} "
        f"file{'s' * (len(written) > 1)}, {texts}; in {out}"
    )
    return 0


def _description(config: Config, out: Path) -> dict[str, Any]:
    """The `config.json`: the published model's own where the run started from one."""
    if config.pretrained:
        description = pretrained.read_description(config.pretrained)
        pretrained.check_agreement(config.model, description, config.pretrained)
        return description
    tokenizer = config.task.tokenizer
    return {
        **pretrained.description_of(config.model, str(out)),
        "max_position_embeddings": config.task.max_prompt_length + config.max_new_tokens,
        "bos_token_id": None,
        "eos_token_id": list(tokenizer.stop_tokens),
        "pad_token_id": tokenizer.pad_token,
    }


def _restore(config: Config, arguments: argparse.Namespace) -> tuple[int, Params]:
    """The checkpoint's step, and its parameters in the host's memory."""
    shapes = jax.eval_shape(partial(models.init, config.model), jax.random.key(0))
    host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=host), shapes)
    directory = RunDirectory(arguments.run).checkpoints
    with Checkpoints.to_read(directory, best_metric=MERIT) as checkpoints:
        step = checkpoints.best_step if arguments.best else arguments.step
        step = checkpoints.latest_step if step is None else step
        restored = checkpoints.restore_part({"state": {"learner": {"params": params}}}, step=step)
    return step or 0, restored["state"]["learner"]["params"]
