"""A task of which nothing but the sizes is left: planning needs no problems and no files."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NoReturn

from dvaojax.config import Config
from dvaojax.types import Completion, Prompt, RewardFunction


def with_sizes_alone(config: Config) -> Config:
    """The configuration with its task and tokenizer replaced by what a compiler sees of them.

    A program depends on the number of objectives, the vocabulary and the tokens that stop; the
    last are taken to be one, which changes no size.
    """
    task = SizesAlone(
        tokenizer=Vocabulary(config.model.vocab_size),
        max_prompt_length=config.task.max_prompt_length,
        names=config.objectives,
    )
    warm_start = dataclasses.replace(config.warm_start, num_steps=0)
    return dataclasses.replace(config, task=task, warm_start=warm_start)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A tokenizer that knows how many tokens there are, and no text."""

    vocab_size: int
    pad_token: int = 0
    stop_tokens: tuple[int, ...] = (0,)

    def encode(self, text: str, /) -> NoReturn:
        """Nobody asks for it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int], /) -> NoReturn:
        """Nobody asks for it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class SizesAlone:
    """A task that is never asked anything.

    Attributes:
        tokenizer: the vocabulary.
        max_prompt_length: in tokens.
        names: of the objectives.
    """

    tokenizer: Vocabulary
    max_prompt_length: int
    names: tuple[str, ...]

    name = "sizes"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Names alone, for nothing is scored."""
        return dict.fromkeys(self.names, _unscored)

    def prompts(self, split: str, /) -> Sequence[Prompt]:
        """One, which nobody reads."""
        return [Prompt("", None, 0)]


def _unscored(completion: Completion, reference: object) -> NoReturn:
    raise NotImplementedError
