"""A placeholder task with sizes only: planning needs neither problems nor files."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NoReturn

from dvaojax.config import Config
from dvaojax.types import Completion, Prompt, RewardFunction


def with_sizes_only(config: Config) -> Config:
    """The configuration with a placeholder for its task and tokenizer.

    A program depends on the number of objectives, the vocabulary and the stop tokens. One stop
    token is assumed, which does not change any size.
    """
    task = PlaceholderTask(
        tokenizer=PlaceholderTokenizer(config.model.vocab_size),
        max_prompt_length=config.task.max_prompt_length,
        names=config.objectives,
    )
    warm_start = dataclasses.replace(config.warm_start, num_steps=0)
    return dataclasses.replace(config, task=task, warm_start=warm_start)


@dataclasses.dataclass(frozen=True)
class PlaceholderTokenizer:
    """A tokenizer with a number of tokens, which cannot convert text."""

    vocab_size: int
    pad_token: int = 0
    stop_tokens: tuple[int, ...] = (0,)

    def encode(self, text: str, /) -> NoReturn:
        """Not called during planning.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int], /) -> NoReturn:
        """Not called during planning.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class PlaceholderTask:
    """A task without problems.

    Attributes:
        tokenizer: the placeholder with the size of the vocabulary.
        max_prompt_length: in tokens.
        names: of the objectives.
    """

    tokenizer: PlaceholderTokenizer
    max_prompt_length: int
    names: tuple[str, ...]

    name = "sizes"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """The names, each with a function that is not called."""
        return dict.fromkeys(self.names, _unscored)

    def prompts(self, split: str, /) -> Sequence[Prompt]:
        """One empty prompt, which is not used."""
        return [Prompt("", None, 0)]


def _unscored(completion: Completion, reference: object) -> NoReturn:
    raise NotImplementedError
