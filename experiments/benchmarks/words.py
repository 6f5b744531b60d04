"""A tokenizer in which token `i` is the word `wi`, and two rewards of such text.

All systems read the same words, so they train on the same token ids, and decode their samples
before they are rewarded, as with a real tokenizer. If all completions have the same length, the
end-of-sequence token is outside the vocabulary: it cannot be sampled and need not be suppressed.
If lengths are imposed, the peers need an end token: the word w0, which is in no prompt and is never
sampled.
"""

import dataclasses
from collections.abc import Sequence

from workload import Workload


@dataclasses.dataclass(frozen=True)
class Words:
    """A tokenizer of `vocab_size` words, with the interfaces of dvaojax and Tunix.

    Attributes:
        vocab_size: `V`.
        end: end-of-sequence and padding token, without text; `V` or 0.
    """

    vocab_size: int
    end: int

    pad_token = 0  # only at masked positions
    stop_tokens = ()

    def encode(self, text: str, /) -> list[int]:
        return [int(word[1:]) for word in text.split()]

    def decode(self, token_ids: Sequence[int], /) -> str:
        return " ".join(f"w{i}" for i in token_ids if i != self.end)

    def bos_id(self) -> int | None:
        return None

    def eos_id(self) -> int:
        return self.end

    def pad_id(self) -> int:
        return self.end


def words_of(workload: Workload) -> Words:
    """The tokenizer of a workload."""
    vocab_size = workload.model["vocab_size"]
    return Words(vocab_size, end=0 if workload.is_ragged else vocab_size)


def sevens(text: str) -> float:
    """Number of occurrences of the word w7."""
    return float(text.split().count("w7"))


def few_nines(text: str) -> float:
    """1 if the word w9 occurs at most once, else 0."""
    return float(text.split().count("w9") < 2)


REWARDS = (sevens, few_nines)
