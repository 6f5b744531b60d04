"""Prompts and completions as text: token `i` is the word `wi`. And two rewards of such text.

Every system reads the same words and so trains on the same token ids, and every system decodes what
it sampled before it is rewarded, as it would with a real tokenizer. Where all completions have one
length, the end of a sequence lies outside the vocabulary: no model can sample it, and no system
spends time on suppressing it. Where lengths are imposed, the peers need an end to mark them with,
and it is the word w0, which no prompt holds and no model may choose.
"""

import dataclasses
from collections.abc import Sequence

from workload import Workload


@dataclasses.dataclass(frozen=True)
class Words:
    """A tokenizer of `vocab_size` words, under the names that dvaojax and Tunix ask for.

    Attributes:
        vocab_size: `V`.
        end: marks the end of a sequence and pads it, has no text, and is `V` or 0.
    """

    vocab_size: int
    end: int

    pad_token = 0  # stands behind a mask alone
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
    """The tokenizer of a workload's systems."""
    vocab_size = workload.model["vocab_size"]
    return Words(vocab_size, end=0 if workload.is_ragged else vocab_size)


def sevens(text: str) -> float:
    """How often the word w7 was said."""
    return float(text.split().count("w7"))


def few_nines(text: str) -> float:
    """1 where the word w9 was said at most once, else 0."""
    return float(text.split().count("w9") < 2)


REWARDS = (sevens, few_nines)
