"""Rewards for following the instructions of a prompt: one of them, all, or a fraction.

Each reward takes a `rule` that decides whether an instruction is followed:

| rule              | checked text                                | undetectable language |
|-------------------|---------------------------------------------|-----------------------|
| `strictly`        | after the thought                           | wrong                 |
| `loosely`         | after the thought, in IFEval's variants too | wrong                 |
| `ifeval_strictly` | whole text                                  | correct               |
| `ifeval_loosely`  | whole text, in IFEval's variants too        | correct               |

IFEval is Zhou et al., arXiv 2311.07911. The last two rules equal its code (google-research,
`instruction_following_eval`, commit 3f357bde), the first two are recommended: they avoid defects of
IFEval's checks (`recommended_checks`), and different Unicode forms of a text are equal to them. A
blank answer follows no instruction. A nonsensical answer follows instructions that forbid
something, such as commas; these instructions cannot detect that.

The reference of every reward is the sequence of the prompt's instructions.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dvaojax.rewards.instructions.instruction import (
    CHECKS,
    LANGUAGE_KINDS,
    RECOMMENDED_CHECKS,
    Instruction,
)
from dvaojax.rewards.instructions.language import detected_language
from dvaojax.rewards.instructions.recommended_checks import without_capitals
from dvaojax.rewards.thinking import after_thinking
from dvaojax.types import Completion

FollowRule = Callable[[str, Instruction], bool]
"""Decides whether a text follows an instruction."""


def followed(
    completion: Completion, instructions: Sequence[Instruction], /, *, number: int, rule: FollowRule
) -> float | None:
    """1 if the answer follows one of its instructions, else 0; None if there are fewer.

    With `number` from 0 to 2, three objectives cover every prompt of IFEval.

    Args:
        completion: the answer.
        instructions: of its prompt.
        number: index of the instruction, from 0.
        rule: decides whether an instruction is followed.
    """
    if number >= len(instructions):
        return None
    return float(rule(completion.text, instructions[number]))


def all_followed(
    completion: Completion, instructions: Sequence[Instruction], /, *, rule: FollowRule
) -> float:
    """1 if the answer follows all its instructions, else 0: IFEval's prompt-level accuracy."""
    return float(all(rule(completion.text, instruction) for instruction in instructions))


def share_followed(
    completion: Completion, instructions: Sequence[Instruction], /, *, rule: FollowRule
) -> float | None:
    """Fraction of its instructions that the answer follows; None if it has none.

    Its mean over prompts is not IFEval's instruction-level accuracy, which weights a prompt by its
    number of instructions.
    """
    if not instructions:
        return None
    return sum(rule(completion.text, each) for each in instructions) / len(instructions)


def strictly(text: str, instruction: Instruction) -> bool:
    """Whether the answer after the thought follows the instruction. Recommended."""
    return _follows_recommended(_answer(text), instruction)


def loosely(text: str, instruction: Instruction) -> bool:
    """Whether one of eight variants of the answer after the thought does. Recommended."""
    return any(_follows_recommended(each, instruction) for each in _variants(_answer(text)))


def ifeval_strictly(text: str, instruction: Instruction) -> bool:
    """Whether the text follows the instruction, as judged by IFEval."""
    return _follows(text, instruction)


def ifeval_loosely(text: str, instruction: Instruction) -> bool:
    """Whether one of eight variants of the text follows the instruction, as judged by IFEval."""
    return any(_follows(each, instruction) for each in _variants(text))


def _follows(text: str, instruction: Instruction) -> bool:
    return bool(text.strip()) and CHECKS[instruction.kind](text, **instruction.arguments)


def _answer(text: str) -> str:
    """The answer after the thought, from its first visible character on, in Unicode's form NFC."""
    answer = after_thinking(text)
    return _composed(answer if answer == text else answer.lstrip())


def _follows_recommended(text: str, instruction: Instruction) -> bool:
    if not text.strip():
        return False
    if instruction.kind in LANGUAGE_KINDS and detected_language(without_capitals(text)) is None:
        return False
    arguments = {name: _composed(value) for name, value in instruction.arguments.items()}
    return RECOMMENDED_CHECKS[instruction.kind](text, **arguments)


def _composed(value: Any) -> Any:
    """A text, or each text of a sequence, in Unicode's form NFC; any other value as it is."""
    if isinstance(value, str):
        # In pieces, since the time for one character with many marks is quadratic.
        return re.sub(r"\S{1,1000}", lambda piece: unicodedata.normalize("NFC", piece[0]), value)
    return [_composed(each) for each in value] if isinstance(value, list | tuple) else value


def _variants(text: str) -> Iterable[str]:
    """The text, and without its first line, its last or both; each also without asterisks."""
    lines = text.split("\n")
    cut = ["\n".join(each).strip() for each in (lines[1:], lines[:-1], lines[1:-1])]
    variants = [text, *cut]
    # Many of the eight variants are often equal.
    return dict.fromkeys(variants + [each.replace("*", "") for each in variants])
