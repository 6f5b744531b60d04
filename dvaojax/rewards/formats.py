"""Rewards for the shape of a completion: thoughts between `<think>` tags, then the answer.

Some chat templates end their generation prompt with `<think>` (DeepSeek-R1, Qwen3's thinking
models). The completion then has no opening tag, and a reward that looks for one would pay 0 for
ever. Every function here takes what the prompt has already written as `opened`, such as
`"<think>\\n"`, and looks at `opened` and the completion together.

All of them are plain scans whose time grows with the length of the text alone.
"""

from typing import Any

from dvaojax.types import Completion

_OPEN, _CLOSE = "<think>", "</think>"


def one_thought_then_answer(
    completion: Completion, reference: Any, /, *, opened: str = ""
) -> float:
    """1 for `<think>`, thoughts, `</think>` and an answer that is not blank, else 0. Recommended.

    Ours. Each tag occurs exactly once and the text starts with the first; space may stand anywhere.
    The published rewards below are weaker (`think_format_trl` pays for thoughts without an answer)
    or hang on single line breaks (`think_answer_format_open_r1`).

    Args:
        completion: the answer.
        reference: not read.
        opened: what the generation prompt has already written.
    """
    text = (opened + completion.text).strip()
    thoughts, _, answer = text.partition(_CLOSE)
    return float(
        thoughts.startswith(_OPEN)
        and text.count(_OPEN) == 1
        and text.count(_CLOSE) == 1
        and bool(answer.strip())
    )


def think_format_trl(completion: Completion, reference: Any, /, *, opened: str = "") -> float:
    """1 where the text starts with `<think>`, has no second one, and a `</think>`; else 0.

    What TRL's `think_format_reward` pays (huggingface/trl f2cd5771). Further `</think>` tags and
    an empty answer pass; a space before the first tag does not.

    Args:
        completion: the answer.
        reference: not read.
        opened: what the generation prompt has already written. TRL has no such parameter.
    """
    text = opened + completion.text
    return float(text.startswith(_OPEN) and text.count(_OPEN) == 1 and _CLOSE in text)


def think_answer_format_open_r1(
    completion: Completion, reference: Any, /, *, opened: str = ""
) -> float:
    """1 for a `<think>` block and then an `<answer>` block, every tag on a line of its own; else 0.

    What open-r1's `format_reward` pays (huggingface/open-r1 0056faa6). Its end of the text may be
    the end of any line, so that two answers, or words after the last, still pay 1.

    Args:
        completion: the answer.
        reference: not read.
        opened: what the generation prompt has already written. open-r1 has no such parameter.
    """
    text, start = opened + completion.text, f"{_OPEN}\n"
    middle, end = f"\n{_CLOSE}\n<answer>\n", "\n</answer>"
    if not text.startswith(start):
        return 0.0
    _, found, answer = text[len(start) :].partition(middle)
    return float(bool(found) and (f"{end}\n" in answer or answer.endswith(end)))


def tag_count_open_r1(completion: Completion, reference: Any, /, *, opened: str = "") -> float:
    """A quarter for each of the four tags that occurs exactly once with its line breaks, in [0, 1].

    What open-r1's `tag_count_reward` pays (huggingface/open-r1 0056faa6). The order of the tags and
    what stands between them do not matter.

    Args:
        completion: the answer.
        reference: not read.
        opened: what the generation prompt has already written. open-r1 has no such parameter.
    """
    text = opened + completion.text
    tags = (f"{_OPEN}\n", f"\n{_CLOSE}\n", "\n<answer>\n", "\n</answer>")
    return sum(0.25 for tag in tags if text.count(tag) == 1)
