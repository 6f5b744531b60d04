"""Whether an answer has the parts that ToolRL's prompt asks for, in order: 0 or 1.

A thought, then a `<tool_call>` block, a `<response>` block, both or neither, as in the gold answer;
one line break between them, and only whitespace around them. The contents of the blocks are not
read here: a block of garbage has the right layout. `toolrl_format` is ToolRL's code
(qiancheng0/ToolRL 8cee13ec); `layout` is ours.
"""

import re
from collections.abc import Sequence

from dvaojax.rewards.thinking import END_OF_THINKING
from dvaojax.rewards.tools.blocks import RESPONSE
from dvaojax.rewards.tools.scanning import TOOL_CALL, outline
from dvaojax.types import Completion

_PATTERNS = {
    TOOL_CALL: r"\n<tool_call>\n.*?\n</tool_call>",
    RESPONSE: r"\n<response>.*?</response>",
}


def toolrl_format(completion: Completion, gold: str, /, *, opened: str = "") -> float:
    """1 for the parts that the gold answer's tags ask for, each once; else 0.

    Equals ToolRL's code (qiancheng0/ToolRL 8cee13ec, `rlla.py`) and GDPO's. It looks for tags
    anywhere: a gold answer whose *thought* mentions a tag requires that part, and an answer whose
    thought mentions one has it twice and gets 0. `layout` is recommended instead.

    Args:
        completion: the answer.
        gold: the gold answer's text.
        opened: text that the generation prompt has already written, such as `"<think>"`; empty for
            ToolRL's own prompts.
    """
    text, asked = (opened + completion.text).strip(), _parts(gold)
    pattern = "<think>.*?</think>" + "".join(_PATTERNS[part] for part in asked)
    return float(_each_once(asked, text) and _matches(pattern, text))


def layout(completion: Completion, gold: str, /, *, opened: str = "") -> float:
    """1 for the parts that the gold answer has after its thought, each once; else 0. Recommended.

    Like `toolrl_format`, except that thoughts may mention any tag: they extend to the last
    `</think>`, in the answer and in the gold answer. A tag in a string of a call is no part. Every
    gold answer of ToolRL's data gets 1.

    Args:
        completion: the answer.
        gold: the gold answer's text.
        opened: text that the generation prompt has already written, as in `toolrl_format`.
    """
    text = outline((opened + completion.text).strip())
    asked = _parts(outline(gold).rpartition(END_OF_THINKING)[2])
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
    """Only for texts with each tag once: otherwise matching could take quadratic time."""
    return re.fullmatch(pattern, text, re.DOTALL) is not None
