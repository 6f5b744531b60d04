"""GDPO's three rewards for GSM8K, each in its published and in a recommended version.

The published ones (NVlabs/GDPO b080e63d) read the answer from `<answer>` tags, compare it with the
gold as text, and require digits only. If the gold is `1,080`, or negative, no answer can be both
right and an integer: in 82 of the 7,473 training problems these two objectives conflict. The
recommended ones read the same completions and have no such conflict.

Reference of all six: the text after `####` in the problem's solution, such as `"1,080"`.
"""

import re

from dvaojax.types import Completion

_INTEGER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)")
_OPEN, _CLOSE = "<answer>", "</answer>"


def tagged_correct(completion: Completion, reference: str, /) -> float:
    """1 if the answer and the gold are the same integer, else 0. Recommended.

    Commas between thousands, leading zeros and a plus sign are ignored. Anything that is not an
    integer is wrong, including `18.0`; the integer objective teaches that format.

    Args:
        completion: the answer, in `<answer>` tags.
        reference: the gold.
    """
    answer = _plain_integer(_tagged(completion.text))
    return float(answer is not None and answer == _plain_integer(reference.strip()))


def tagged_integer(completion: Completion, reference: str, /) -> float:
    """1 if the answer is an integer in ASCII digits, sign and thousands commas allowed; else 0.

    Args:
        completion: the answer, in `<answer>` tags.
        reference: not read.
    """
    return float(_plain_integer(_tagged(completion.text)) is not None)


def tagged_format(completion: Completion, reference: str, /, *, opened: str = "") -> float:
    """1 for one `<think>` block and then one `<answer>` block, with optional whitespace; else 0.

    Each of the four tags occurs exactly once, and the answer is not blank.

    Args:
        completion: the answer.
        reference: not read.
        opened: text that the generation prompt has already written (see `rewards.formats`).
    """
    text = (opened + completion.text).strip()
    thoughts, _, rest = text.partition("</think>")
    rest = rest.strip()
    return float(
        thoughts.startswith("<think>")
        and rest.startswith(_OPEN)
        and rest.endswith(_CLOSE)
        and all(text.count(tag) == 1 for tag in ("<think>", "</think>", _OPEN, _CLOSE))
        and bool(_tagged(rest))
    )


def tagged_correct_gdpo(completion: Completion, reference: str, /) -> float:
    """1 if the answer is the gold, character by character; else 0.

    Equals GDPO's demonstration. A completion without the tag is read as the answer.

    Args:
        completion: the answer.
        reference: the gold.
    """
    return float(_tagged(completion.text) == reference.strip())


def tagged_integer_gdpo(completion: Completion, reference: str, /) -> float:
    """1 if the answer consists of digits only (`str.isdigit`), else 0.

    Equals GDPO's demonstration: superscripts and digits of any script are accepted, `-7` and
    `1,080` are not.

    Args:
        completion: the answer.
        reference: not read.
    """
    return float(_tagged(completion.text).isdigit())


def tagged_format_gdpo(completion: Completion, reference: str, /, *, opened: str = "") -> float:
    """1 for `<think>..</think>`, one line break, `<answer>..</answer>` and nothing else; else 0.

    Equals GDPO's demonstration. Each answer tag occurs exactly once, in the thoughts too; a single
    line break may follow at the end, and both blocks may be empty.

    Args:
        completion: the answer.
        reference: not read.
        opened: text that the generation prompt has already written. GDPO has no such parameter.
    """
    text = (opened + completion.text).removesuffix("\n")
    return float(
        text.startswith("<think>")
        and text.endswith(_CLOSE)
        and text.count(_OPEN) == 1
        and text.count(_CLOSE) == 1
        and f"</think>\n{_OPEN}" in text[len("<think>") :]
    )


def _tagged(text: str) -> str:
    """The text from the last `<answer>` to the next `</answer>`; all of it if a tag is missing."""
    return text.rpartition(_OPEN)[2].partition(_CLOSE)[0].strip()


def _plain_integer(text: str) -> str | None:
    """One spelling for each integer, as text: Python does not parse thousands of digits."""
    if _INTEGER.fullmatch(text) is None:
        return None
    digits = text.lstrip("+-").replace(",", "").lstrip("0") or "0"
    return f"-{digits}" if text.startswith("-") and digits != "0" else digits
