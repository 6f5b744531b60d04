"""Exports a checkpoint of a run in the format of published models."""

from pathlib import Path
from typing import Any

import jax
from etils import epath

from dvaojax import files, models
from dvaojax.config import Config
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
from dvaojax.models import Params, pretrained
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train.progress import restore_params
from dvaojax.train.session import BEST_METRIC


def export_checkpoint(
    config: Config,
    run: Path | epath.Path,
    out: Path,
    *,
    dtype: str | None,
    step: int | None,
    best: bool,
) -> str:
    """Writes `config.json`, safetensors and the tokenizer's files to a new directory.

    Args:
        config: as recorded by the run.
        run: the run's directory, also in a bucket.
        out: the new directory; it appears when it is complete.
        dtype: of the written weights; None for that of the parameters.
        step: of the checkpoint; None for the newest.
        best: whether to take the checkpoint with the best weighted reward instead.

    Returns:
        A line that says what was written.

    Raises:
        UserError: the data type cannot be written, there is no such checkpoint, the configuration
            has no equivalent, or the directory exists.
    """
    dtype = dtype or config.model.param_dtype
    if dtype not in pretrained.WRITE_DTYPES:
        raise UserError(
            f"--dtype: {dtype} parameters are written as {' or '.join(pretrained.WRITE_DTYPES)}"
        )
    description = _description(config, out)
    tokenizer = config.task.tokenizer
    with files.new_directory(out) as directory:
        step, params = _restore(config, run, step=step, best=best)
        written = pretrained.write(directory, params, config.model, description, dtype=dtype)
        if isinstance(tokenizer, PretrainedTokenizer):
            tokenizer.write(directory)
    count = sum(a.size for a in jax.tree.leaves(params))
    texts = "with its tokenizer"
    if not isinstance(tokenizer, PretrainedTokenizer):
        texts = f"without a tokenizer: {type(tokenizer).__name__} has no files"
    return (
        f"{run}, step {step}: {count:,} parameters in {dtype}, {len(written)} "
        f"file{'s' * (len(written) > 1)}, {texts}; in {out}"
    )


def _description(config: Config, out: Path) -> dict[str, Any]:
    """The `config.json`: that of the published model if the run started from one."""
    if config.pretrained:
        description = pretrained.read_description(config.pretrained)
        pretrained.check_agreement(config.model, description, config.pretrained)
        return description
    tokenizer = config.task.tokenizer
    return {
        **pretrained.make_description(config.model, str(out)),
        "max_position_embeddings": config.task.max_prompt_length + config.max_new_tokens,
        "bos_token_id": None,
        "eos_token_id": list(tokenizer.stop_tokens),
        "pad_token_id": tokenizer.pad_token,
    }


def _restore(
    config: Config, run: Path | epath.Path, *, step: int | None, best: bool
) -> tuple[int, Params]:
    """The checkpoint's step, and its parameters in the host's memory."""
    host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=host), models.shapes(config.model)
    )
    checkpoints = SavedCheckpoints(run / files.CHECKPOINTS, best_metric=BEST_METRIC)
    step = checkpoints.existing_step(checkpoints.best_step if best else step)
    return step, restore_params(checkpoints, shapes, step=step)
