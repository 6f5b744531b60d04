"""What a task is: prompts, a tokenizer and the objectives a completion is scored on."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dvaojax.types import Prompt, RewardFunction


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def pad_token(self) -> int: ...
    @property
    def stop_tokens(self) -> tuple[int, ...]: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the tokens, without stop tokens and padding."""
        ...


class Task(Protocol):
    """A frozen dataclass whose fields are the task's knobs (`--set task.FIELD=VALUE`)."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def max_prompt_length(self) -> int:
        """In tokens; prompts are padded to it."""
        ...

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Name -> reward function, in the order of the reward vector's columns."""
        ...

    def prompts(self, split: str) -> Sequence[Prompt]:
        """The problems of "train" or "test"; the two share none."""
        ...
