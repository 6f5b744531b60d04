"""The attention that a run uses on its devices: lines for the log, and what cannot be used."""

from dvaojax.config import Config
from dvaojax.errors import UserError
from dvaojax.models.attention import backend, decode_backend
from dvaojax.models.attention.splash import SplashLayout


def attention_lines(config: Config, platform: str) -> list[str]:
    """One line for the update, with completions of full length, and one for decoding.

    Args:
        config: the run.
        platform: of its devices: "cpu", "gpu" or "tpu".

    Raises:
        UserError: a backend that the configuration names does not support the devices or the model.
    """
    prompt, longest = config.task.max_prompt_length, max(config.max_new_tokens - 1, 1)
    row = prompt + config.largest_group * longest
    layout = SplashLayout(row=row, prompt=prompt, longest=longest, packed=False)
    try:
        return [
            backend.describe(config.model, platform, layout),
            decode_backend.describe(config.model, platform),
        ]
    except ValueError as error:
        raise UserError(str(error)) from error
