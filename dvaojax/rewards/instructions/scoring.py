"""Rewards for following the instructions of a prompt: one of them, all, or a fraction.

Each reward takes a `rule` that decides whether an instruction is followed:

| rule              | checked text                                | undetectable language |
|-------------------|---------------------------------------------|-----------------------|
| `strictly`        | after the thought                           | wrong                 |
| `loosely`         | after the thought, in IFEval's variants too | wrong                 |
| `ifeval_strictly` | whole text                                  | correct               |
| `ifeval_loosely`  | whole text, in IFEval's variants too        | correct               |

IFEval is Zhou et al., arXiv 2311.07911. The last two rules equal its code (google-research,
`instruction_following_eval`, commit 3f357bde), the first two are recommended. A blank answer
follows no instruction. A nonsensical answer follows instructions that forbid something, such as
commas; these instructions cannot detect that.

The reference of every reward is the sequence of the prompt's instructions.
"""

from collections.abc import Callable, Iterable, Sequence

from dvaojax.rewards.instructions.instruction import CHECKS, LANGUAGE_KINDS, Instruction
from dvaojax.rewards.instructions.language import detected_language
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
    return _follows_in_known_language(after_thinking(text), instruction)


def loosely(text: str, instruction: Instruction) -> bool:
    """Whether one of eight variants of the answer after the thought does. Recommended."""
    return any(
        _follows_in_known_language(each, instruction) for each in _variants(after_thinking(text))
    )


def ifeval_strictly(text: str, instruction: Instruction) -> bool:
    """Whether the text follows the instruction, as judged by IFEval."""
    return _follows(text, instruction)


def ifeval_loosely(text: str, instruction: Instruction) -> bool:
    """Whether one of eight variants of the text follows the instruction, as judged by IFEval."""
    return any(_follows(each, instruction) for each in _variants(text))


def _follows(text: str, instruction: Instruction) -> bool:
    return bool(text.strip()) and CHECKS[instruction.kind](text, **instruction.arguments)


def _follows_in_known_language(text: str, instruction: Instruction) -> bool:
    if instruction.kind in LANGUAGE_KINDS and detected_language(text) is None:
        return False
    return _follows(text, instruction)


def _variants(text: str) -> Iterable[str]:
    """The text, and without its first line, its last or both; each also without asterisks."""
    lines = text.split("\n")
    cut = ["\n".join(each).strip() for each in (lines[1:], lines[:-1], lines[1:-1])]
    variants = [text, *cut]
    # Many of the eight variants are often equal.
    return dict.fromkeys(variants + [each.replace("*", "") for each in variants])
