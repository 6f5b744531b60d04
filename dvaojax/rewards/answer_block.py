"""Rewards that read an answer out of a block, such as `[42]`.

A block is an opening marker, text without a marker, and a closing marker. An unmatched marker
belongs to no block, and of nested ones only the innermost pair is a block: `[[1] 2]` contains the
block `1`. Reading is a plain scan in time linear in the length of the text. The rules are ours, for
the built-in task.
"""

import re

from dvaojax.types import Completion

_INTEGER = re.compile(r"([+-]?)([0-9]+)")


def blocks(text: str, *, opening: str, closing: str) -> list[str]:
    """Contents of all complete blocks from left to right, spaces included.

    Args:
        text: any text.
        opening: the marker before an answer, such as `[`.
        closing: the marker after it; must differ from `opening`.

    Raises:
        ValueError: a marker is empty, or the two are the same.
    """
    if not opening or not closing or opening == closing:
        raise ValueError(f"a block needs two different markers, not {opening!r} and {closing!r}")
    contents = []
    for piece in text.split(closing)[:-1]:
        _, marker, content = piece.rpartition(opening)
        if marker:
            contents.append(content)
    return contents


def last_block(text: str, *, opening: str, closing: str) -> str | None:
    """Content of the last complete block, or None if there is none (see `blocks`)."""
    contents = blocks(text, opening=opening, closing=closing)
    return contents[-1] if contents else None


def exact_answer(
    completion: Completion, reference: str | int, /, *, opening: str, closing: str
) -> float:
    """1 if the last complete block contains the reference, else 0.

    Surrounding spaces are ignored. Integers of any size are compared exactly by value (`025` is
    `25`, `+7` is `7`); everything else is compared as text, so `25.0` is not `25` and `1,080` is
    not `1080`. A completion without a block is wrong.

    Args:
        completion: the answer; text before and after the block is ignored.
        reference: the correct answer.
        opening: the marker before an answer.
        closing: the marker after it.

    Raises:
        TypeError: the reference is neither text nor an integer. (A float would already have been
            rounded.)
        ValueError: as in `blocks`.
    """
    if isinstance(reference, bool) or not isinstance(reference, str | int):
        kind = type(reference).__name__
        raise TypeError(f"a reference is text or an integer, not {reference!r}, a {kind}")
    answer = canonical_answer(completion, opening=opening, closing=closing)
    return float(answer is not None and answer == _canonical(str(reference)))


def canonical_answer(completion: Completion, *, opening: str, closing: str) -> str | None:
    """The last complete block in a canonical spelling, equal for equal answers.

    None if there is no block. Used to compare completions with each other; see `exact_answer` for
    when two answers are equal.

    Raises:
        ValueError: as in `blocks`.
    """
    answer = last_block(completion.text, opening=opening, closing=closing)
    return None if answer is None else _canonical(answer)


def single_block_at_end(
    completion: Completion, reference: object, /, *, opening: str, closing: str
) -> float:
    """1 if the completion has exactly one block, nothing after it, and stopped; else 0.

    Each marker has to occur exactly once, and not even a space may follow the block. The content is
    ignored here: an empty block is well formed and wrong. A completion that reached the token limit
    always gets 0.

    Args:
        completion: the answer; text before the block is allowed.
        reference: not read.
        opening: the marker before an answer.
        closing: the marker after it.

    Raises:
        ValueError: as in `blocks`.
    """
    text = completion.text
    return float(
        completion.stopped
        and text.endswith(closing)
        and text.count(opening) == 1
        and text.count(closing) == 1
        and len(blocks(text, opening=opening, closing=closing)) == 1
    )


def _canonical(answer: str) -> str:
    """One spelling for each integer, of any size; other text without surrounding spaces.

    Compares strings of digits, not numbers: Python does not parse integers of thousands of digits,
    and floats cannot distinguish neighbouring integers above 2**53.
    """
    answer = answer.strip()
    match = _INTEGER.fullmatch(answer)
    if match is None:
        return answer
    sign, digits = match.groups()
    digits = digits.lstrip("0") or "0"
    return f"-{digits}" if sign == "-" and digits != "0" else digits
