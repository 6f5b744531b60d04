"""Rewards that read an answer out of a block, such as `[42]`.

A block is an opening marker, text without a marker, and a closing marker. A marker without its
partner belongs to no block, and of nested ones only the innermost pair is a block: `[[1] 2]` holds
the block `1`. Reading is a plain scan whose time grows with the length of the text alone. The rules
are ours, for the embedded task.
"""

import re

from dvaojax.types import Completion

_INTEGER = re.compile(r"([+-]?)([0-9]+)")


def blocks(text: str, *, opening: str, closing: str) -> list[str]:
    """What stands in each complete block, from left to right, spaces included.

    Args:
        text: any text.
        opening: the marker before an answer, such as `[`.
        closing: the marker after it; another one than `opening`.

    Raises:
        ValueError: a marker is empty, or the two are the same.
    """
    if not opening or not closing or opening == closing:
        raise ValueError(f"a block needs two different markers, not {opening!r} and {closing!r}")
    found = []
    for piece in text.split(closing)[:-1]:
        _, marker, content = piece.rpartition(opening)
        if marker:
            found.append(content)
    return found


def last_block(text: str, *, opening: str, closing: str) -> str | None:
    """What stands in the last complete block, or None where there is none (see `blocks`)."""
    found = blocks(text, opening=opening, closing=closing)
    return found[-1] if found else None


def exact_answer(
    completion: Completion, reference: str | int, /, *, opening: str, closing: str
) -> float:
    """1 where the last complete block holds the reference, else 0.

    Spaces around the answer do not count. Integers are compared by value and exactly, whatever
    their size (`025` is `25`, `+7` is `7`); everything else is compared as text, so that `25.0` is
    not `25` and `1,080` is not `1080`. No answer is a wrong answer.

    Args:
        completion: the answer; text before and after the block is ignored.
        reference: the right answer.
        opening: the marker before an answer.
        closing: the marker after it.

    Raises:
        TypeError: the reference is neither text nor an integer. (A float would have been rounded
            before it came here.)
        ValueError: as in `blocks`.
    """
    if isinstance(reference, bool) or not isinstance(reference, str | int):
        kind = type(reference).__name__
        raise TypeError(f"a reference is text or an integer, not {reference!r}, a {kind}")
    answer = canonical_answer(completion, opening=opening, closing=closing)
    return float(answer is not None and answer == _canonical(str(reference)))


def canonical_answer(completion: Completion, *, opening: str, closing: str) -> str | None:
    """The last complete block in the one form that equal answers have (see `exact_answer`).

    None where there is no block. It is for comparing completions with each other.

    Raises:
        ValueError: as in `blocks`.
    """
    answer = last_block(completion.text, opening=opening, closing=closing)
    return None if answer is None else _canonical(answer)


def single_block_at_end(
    completion: Completion, reference: object, /, *, opening: str, closing: str
) -> float:
    """1 where the completion holds exactly one block, nothing after it, and stopped; else 0.

    Each marker has to occur exactly once, and not even a space may follow the block. What stands in
    it does not matter here: an empty block is well formed and wrong. A completion that ran into the
    token limit never earns this reward.

    Args:
        completion: the answer; text before the block is welcome.
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
    """One spelling for each integer, of any size; other text as it is, without outer spaces.

    Strings of digits are compared, not numbers: Python refuses to read integers of thousands of
    digits, and floats confuse neighbours above 2**53.
    """
    answer = answer.strip()
    match = _INTEGER.fullmatch(answer)
    if match is None:
        return answer
    sign, digits = match.groups()
    digits = digits.lstrip("0") or "0"
    return f"-{digits}" if sign == "-" and digits != "0" else digits
