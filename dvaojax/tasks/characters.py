"""A tokenizer of single characters, for tasks that generate their own text."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

from dvaojax.errors import UserError


@dataclasses.dataclass(frozen=True)
class CharacterTokenizer:
    """One token per character, after a padding token (0) and a stop token (1).

    Attributes:
        alphabet: the characters, each once.

    Raises:
        ValueError: a character is listed twice.
    """

    alphabet: str

    pad_token = 0
    stop_tokens = (1,)

    def __post_init__(self):
        if len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError(f"alphabet {self.alphabet!r} lists a character twice")

    @property
    def vocab_size(self) -> int:
        """Number of characters plus padding and stop token."""
        return len(self.alphabet) + 2

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i + 2 for i, character in enumerate(self.alphabet)}

    def encode(self, text: str) -> list[int]:
        """The text's tokens, without a stop token.

        Raises:
            UserError: a character is not in the alphabet.
        """
        unknown = sorted(set(text) - set(self.alphabet))
        if unknown:
            raise UserError(
                f"the text {text[:60]!r} contains {unknown[0]!r}, which is not in the alphabet of "
                f"its tokenizer, {self.alphabet[:60]!r}: add it there, or leave it out of the text"
            )
        return [self._ids[character] for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the tokens, without padding and stop tokens.

        A model's vocabulary may be larger than the alphabet, so that it can be sharded evenly; each
        additional token becomes U+FFFD, which is never part of a valid answer.
        """
        letters = [self.alphabet[i - 2 : i - 1] or "\ufffd" for i in token_ids if i >= 2]
        return "".join(letters)
