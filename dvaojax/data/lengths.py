"""Handling of prompts that are too long for a run: dropped or refused, never truncated."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from dvaojax.errors import UserError
from dvaojax.types import Prompt, Tokenizer

OnLong = Literal["drop", "refuse"]


class Selection(NamedTuple):
    """The prompts of a dataset that fit a limit.

    Attributes:
        kept: prompts of at most `limit` tokens, in their original order.
        dropped: number of longer prompts.
        longest: length of the longest prompt, in tokens, dropped ones included.
        limit: in tokens.
    """

    kept: tuple[Prompt, ...]
    dropped: int
    longest: int
    limit: int

    def in_words(self) -> str:
        """One line for the user: how many prompts were dropped, and why."""
        total = len(self.kept) + self.dropped
        if not self.dropped:
            return f"all {total} prompts fit {self.limit} tokens; the longest has {self.longest}"
        return (
            f"dropped {self.dropped} of {total} prompts longer than {self.limit} tokens; the "
            f"longest has {self.longest}"
        )


def select(
    prompts: Sequence[Prompt], tokenizer: Tokenizer, *, limit: int, on_long: OnLong
) -> Selection:
    """Selects the prompts of at most `limit` tokens.

    Args:
        prompts: text as the tokenizer reads it, chat template rendered.
        tokenizer: the model's tokenizer.
        limit: in tokens, the `max_prompt_length` of a task.
        on_long: "drop" drops and counts longer prompts, "refuse" raises an error.

    Raises:
        UserError: a prompt is too long with `on_long="refuse"`, or no prompt fits.
        ValueError: `on_long` is neither "drop" nor "refuse".
    """
    if on_long not in ("drop", "refuse"):
        raise ValueError(f"on_long={on_long!r} is neither 'drop' nor 'refuse'")
    lengths = [len(tokenizer.encode(prompt.text)) for prompt in prompts]
    kept = tuple(p for p, length in zip(prompts, lengths, strict=True) if length <= limit)
    selection = Selection(kept, len(prompts) - len(kept), max(lengths, default=0), limit)
    if selection.dropped and on_long == "refuse":
        first = next(i for i, length in enumerate(lengths) if length > limit)
        raise UserError(
            f"prompt {prompts[first].index} has {lengths[first]} tokens, more than the limit of "
            f"{limit}; {selection.dropped} of {len(prompts)} prompts are too long: raise the limit "
            "or drop them"
        )
    if prompts and not kept:
        raise UserError(f"none of {len(prompts)} prompts has at most {limit} tokens")
    return selection
