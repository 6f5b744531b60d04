"""Whether an answer has the parts that ToolRL's prompt asks for, in their order: 0 or 1.

A thought, then a `<tool_call>` block, a `<response>` block, both or neither, as the gold answer has
them; nothing but one line break between them, and nothing around them but space. What stands in the
blocks is not read here: a block full of garbage is well laid out and wrong. `toolrl_format` is
ToolRL's code (qiancheng0/ToolRL 8cee13ec); `layout` is ours.
"""

import re
from collections.abc import Sequence

from dvaojax.rewards.thinking import END_OF_THINKING, after_thinking
from dvaojax.rewards.tools.blocks import RESPONSE, TOOL_CALL
from dvaojax.types import Completion

_PATTERNS = {
    TOOL_CALL: r"\n<tool_call>\n.*?\n</tool_call>",
    RESPONSE: r"\n<response>.*?</response>",
}


def toolrl_format(completion: Completion, gold: str, /, *, opened: str = "") -> float:
    """1 for the parts that the gold answer's tags ask for, each once; else 0.

    What ToolRL's code pays (qiancheng0/ToolRL 8cee13ec, `rlla.py`), and GDPO's with it. It looks
    for tags anywhere: a gold answer whose *thought* names a tag asks for that part, and an answer
    whose thought names one has it twice and earns 0. `layout` is the recommended form.

    Args:
        completion: the answer.
        gold: the gold answer's text.
        opened: what the generation prompt has already written, such as `"<think>"`; ToolRL's own
            prompts write nothing.
    """
    text, asked = (opened + completion.text).strip(), _parts(gold)
    pattern = "<think>.*?</think>" + "".join(_PATTERNS[part] for part in asked)
    return float(_each_once(asked, text) and _matches(pattern, text))


def layout(completion: Completion, gold: str, /, *, opened: str = "") -> float:
    """1 for the parts that the gold answer has after its thought, each once; else 0. Recommended.

    `toolrl_format`, except that thoughts may name any tag: they reach to the last `</think>`, in
    the answer and in the gold answer. Every gold answer of ToolRL's data earns 1.

    Args:
        completion: the answer.
        gold: the gold answer's text.
        opened: what the generation prompt has already written, as in `toolrl_format`.
    """
    text, asked = (opened + completion.text).strip(), _parts(after_thinking(gold))
    _, thought, rest = text.rpartition(END_OF_THINKING)
    pattern = "".join(_PATTERNS[part] for part in asked)
    return float(
        text.startswith("<think>")
        and bool(thought)
        and _each_once(asked, rest)
        and _matches(pattern, rest)
    )


def _parts(gold: str) -> list[tuple[str, str]]:
    return [part for part in _PATTERNS if part[0] in gold]


def _each_once(parts: Sequence[tuple[str, str]], text: str) -> bool:
    return all(text.count(tag) == 1 for part in parts for tag in part)


def _matches(pattern: str, text: str) -> bool:
    """To be asked only where each tag stands once: a hostile text could make it try every pair."""
    return re.fullmatch(pattern, text, re.DOTALL) is not None
