"""Format rewards: thoughts between `<think>` tags, then the answer.

Some chat templates end their generation prompt with `<think>` (DeepSeek-R1, Qwen3's thinking
models). The completion then has no opening tag, and a reward that looks for one would always be 0.
Every function here takes the part that the prompt has already written as `opened`, such as
`"<think>\\n"`, and examines `opened` and the completion together.

All of them are plain scans in time linear in the length of the text.
"""

from typing import Any

from dvaojax.types import Completion

_OPEN, _CLOSE = "<think>", "</think>"


def one_thought_then_answer(
    completion: Completion, reference: Any, /, *, opened: str = ""
) -> float:
    """1 for `<think>`, thoughts, `</think>` and an answer that is not blank, else 0. Recommended.

    Ours. Each tag occurs exactly once and the text starts with the first; whitespace is allowed
    anywhere. The published rewards below are weaker (`think_format_trl` accepts thoughts without an
    answer) or depend on single line breaks (`think_answer_format_open_r1`).

    Args:
        completion: the answer.
        reference: not read.
        opened: text that the generation prompt has already written.
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
    """1 if the text starts with `<think>`, has no second one, and a `</think>`; else 0.

    Equals TRL's `think_format_reward` (huggingface/trl f2cd5771). Further `</think>` tags and an
    empty answer are accepted; whitespace before the first tag is not.

    Args:
        completion: the answer.
        reference: not read.
        opened: text that the generation prompt has already written. TRL has no such parameter.
    """
    text = opened + completion.text
    return float(text.startswith(_OPEN) and text.count(_OPEN) == 1 and _CLOSE in text)


def think_answer_format_open_r1(
    completion: Completion, reference: Any, /, *, opened: str = ""
) -> float:
    """1 for a `<think>` block and then an `<answer>` block, each tag on its own line; else 0.

    Equals open-r1's `format_reward` (huggingface/open-r1 0056faa6). Its pattern may match the end
    of any line as the end of the text, so two answers, or words after the last, still give 1.

    Args:
        completion: the answer.
        reference: not read.
        opened: text that the generation prompt has already written; open-r1 has no such parameter.
    """
    text, start = opened + completion.text, f"{_OPEN}\n"
    middle, end = f"\n{_CLOSE}\n<answer>\n", "\n</answer>"
    if not text.startswith(start):
        return 0.0
    _, separator, answer = text[len(start) :].partition(middle)
    return float(bool(separator) and (f"{end}\n" in answer or answer.endswith(end)))


def tag_count_open_r1(completion: Completion, reference: Any, /, *, opened: str = "") -> float:
    """A quarter for each of the four tags that occurs exactly once with its line breaks, in [0, 1].

    Equals open-r1's `tag_count_reward` (huggingface/open-r1 0056faa6). The order of the tags and
    the text between them do not matter.

    Args:
        completion: the answer.
        reference: not read.
        opened: text that the generation prompt has already written; open-r1 has no such parameter.
    """
    text = opened + completion.text
    tags = (f"{_OPEN}\n", f"\n{_CLOSE}\n", "\n<answer>\n", "\n</answer>")
    return sum(0.25 for tag in tags if text.count(tag) == 1)
